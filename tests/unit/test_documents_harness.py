"""The harness that runs pages fails where a page is wrong, and says at which line."""

from pathlib import Path

import pytest

from tests.documents import blocks, matches, run_page, script, steps

PAGE = """
Read this.

```
make setup
```

```sh
export GREETING=hello
```

```ini title=~/deep/file.ini
[section]
dollar = $HOME 'quoted'
```

```sh
echo "$GREETING" from "$(head -n 1 ~/deep/file.ini)"
grep dollar ~/deep/file.ini
```

```text
hello from ...
dollar = $HOME 'quoted'
```
"""


def run(text: str, home: Path) -> list[str]:
    page = home / "page.md"
    page.write_text(text, encoding="utf-8")
    return run_page(page, home, {})


def test_blocks_run_in_one_shell_and_files_are_written_as_they_stand(tmp_path: Path) -> None:
    assert run(PAGE, tmp_path)[-1] == "hello from [section]\ndollar = $HOME 'quoted'\n"


def test_what_has_no_word_or_no_title_is_only_read() -> None:
    assert [step.block.language for step in steps(PAGE)] == ["sh", "ini", "sh"]
    assert "make setup" not in script(steps(PAGE))
    assert [block.line for block in blocks(PAGE)] == [4, 8, 12, 17, 22]


def test_a_command_that_fails_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md, line 17: exit code 1"):
        run(PAGE.replace("grep dollar", "grep nothing"), tmp_path)


def test_other_output_than_the_page_promises_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md, line 17: the page promises"):
        run(PAGE.replace("hello from ...", "goodbye from ..."), tmp_path)


def test_output_without_a_command_is_a_fault_of_the_page() -> None:
    with pytest.raises(ValueError, match="line 2: expected output follows no block"):
        steps("\n```text\nhello\n```\n")


@pytest.mark.parametrize(
    ("expected", "output", "is_match"),
    [
        ("a\nb", "a\nb\n", True), ("a\nb", "a\n", False), ("a", "a\nb\n", False), ("a ... c", "a b c\n", True),
        ("...\nlast", "first\nmore\nlast\n", True), ("...\nlast", "last\n", True), ("a\n...", "a\n", True),
        ("...\nlast", "first\n", False), ("a...", "a\nb\n", False), (None, "anything", True), ("(x)", "x\n", False),
    ],
)  # fmt: skip
def test_dots_stand_for_anything(expected: str | None, output: str, is_match: bool) -> None:
    assert matches(expected, output) is is_match
