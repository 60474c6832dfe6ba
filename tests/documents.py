"""Runs a page of the documentation as a reader would: its blocks in order, in one shell, in a home of their own.

What a block is, is told by the word after its fence, which also reads well:

- `sh` is run; the shell ends at the first command that fails, and what one block exports the next one has.
- `sql` is run by psql in the database of LONGBOX_POSTGRES_URL.
- `text` is what the block before it must have printed. `...` stands for anything; a line of `...` for any lines.
- any language with `title=PATH` is written to that file first.
- everything else (no word, `console`, `yaml` without a title) is there to be read, and is not run.

The project is the working directory, `longbox` and a psql are on the path, and HOME is the home given.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import binaries
from resources.settings import PROJECT_ROOT

_FENCE = re.compile(r"^( *)```(?P<info>[^\n]*)\n(?P<body>.*?)^\1```$", re.MULTILINE | re.DOTALL)
_MARK = "\x1e"
RUNS = ("sh", "sql")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its file if it has one, and the line of the page where it begins."""

    language: str
    title: str | None
    body: str
    line: int


@dataclass(frozen=True)
class Step:
    """A block that is run, and what it must print (None: anything)."""

    block: Block
    expected: str | None


def blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown page, in order."""
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        title = re.search(r"title=(\S+)", rest)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(language, title.group(1) if title else None, match["body"], line))
    return found


def steps(text: str) -> list[Step]:
    """What is done with a page: files to write and blocks to run. Raises ValueError for an orphaned `text` block."""
    found: list[Step] = []
    before: Block | None = None
    for block in blocks(text):
        if block.language == "text":
            if before is None or before.language not in RUNS:
                raise ValueError(f"line {block.line}: expected output follows no block that is run")
            found[-1] = Step(found[-1].block, block.body)
        elif block.title or block.language in RUNS:
            found.append(Step(block, None))
        before = block
    return found


def script(found: list[Step]) -> str:
    """One shell script of all steps; prints a mark with its number before each."""
    lines = ["set -euo pipefail"]
    for number, step in enumerate(found):
        body = step.block.body.rstrip("\n")
        lines.append(f"printf '\\036%s\\n' {number}")
        if step.block.title:
            target = step.block.title.replace("~", '"$HOME"', 1)
            lines.append(
                f"mkdir -p \"$(dirname {target})\"; cat >{target} <<'{_end(body)}'\n{body}\n{_end(body)}"
            )
        elif step.block.language == "sql":
            command = 'psql --no-psqlrc --set ON_ERROR_STOP=1 "$LONGBOX_POSTGRES_URL"'
            lines.append(f"{command} <<'{_end(body)}'\n{body}\n{_end(body)}")
        else:
            lines.append(body)
    return "\n".join([*lines, "printf '\\036end\\n'", ""])


def run_page(page: Path, home: Path, environ: Mapping[str, str], *, seconds: float = 300.0) -> list[str]:
    """Run a page; returns what each step printed. Raises AssertionError that names the page's line."""
    found = steps(page.read_text(encoding="utf-8"))
    path = [str(Path(sys.executable).parent), str(binaries.find_postgres().folder), os.environ["PATH"]]
    env = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": os.pathsep.join(path), **environ}
    done = subprocess.run(
        ["bash", "-c", script(found)], cwd=PROJECT_ROOT, env=env, text=True, timeout=seconds,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    outputs = [part.partition("\n")[2] for part in done.stdout.split(_MARK)[1:]]
    reached = found[min(len(outputs), len(found)) - 1].block
    assert done.returncode == 0, (
        f"{page.name}, line {reached.line}: exit code {done.returncode}\n{outputs[-1]}"
    )
    for step, output in zip(found, outputs, strict=False):
        assert matches(step.expected, output), (
            f"{page.name}, line {step.block.line}: the page promises\n{step.expected}\nand it printed\n{output}"
        )
    return outputs[:-1]


def matches(expected: str | None, output: str) -> bool:
    """Whether `output` is what `expected` promises; see the module for `...`."""
    if expected is None:
        return True
    pattern = ""
    for line in expected.strip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += "[^\n]*".join(re.escape(part.rstrip()) for part in line.split("...")) + r"[ \t]*\n"
    return re.fullmatch(pattern, output.strip("\n") + "\n") is not None


def _end(body: str) -> str:
    word = "END_OF_BLOCK"
    while word in body:
        word += "_"
    return shlex.quote(word)
