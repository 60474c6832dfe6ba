"""The system.yaml of an adopted schema as text: what is sure stands as YAML, what is advice stands as a comment.

Written, never overwritten; the text loads as it is, and each commented line becomes right when its `#` goes.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from pipelines.adoption.advice import Advice, span_years
from pipelines.adoption.survey import Survey
from resources.errors import UserError

FILE_NAME = "system.yaml"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def write_document(text: str, folder: Path) -> Path:
    """Write `text` as `folder`/system.yaml. Raises `UserError` when there is one already: it is never overwritten."""
    file = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise UserError(
            f"{file} exists and is not overwritten; move it away, or give --out another folder"
        ) from None
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror}); give --out a folder of your own"
        ) from None
    return file


def compose_document(survey: Survey, advices: Sequence[Advice]) -> str:
    """The text of the system.yaml that adopts the tables of `advices`."""
    carried = [advice for advice in advices if advice.refusal is None]
    lines = [
        f"# The tables of schema {survey.schema} as they were found; nothing was changed. What is "
        f"commented out is advice:",
        "# take the # away where you agree. Longbox reads the tables as roles of its own, so let it "
        "(run `longbox migrate`",
        "# first, it makes the roles):",
        f"#   GRANT USAGE ON SCHEMA {survey.schema} TO longbox_app, longbox_reader, longbox_backup;",
        f"#   GRANT SELECT ON ALL TABLES IN SCHEMA {survey.schema} TO longbox_app, longbox_reader, longbox_backup;",
        f"system: {_scalar(survey.schema)}",
        "tables:" if carried else "tables: {}",
    ]
    for advice in carried:
        lines += _table(survey.schema, advice)
    lines += _left_out(survey, advices)
    return "\n".join(lines) + "\n"


def _table(schema: str, advice: Advice) -> list[str]:
    table = advice.table
    lines = [f"  {_scalar(table.name)}:", f"    # {_size(advice)}"]
    lines += [f"    # {_comment(warning)}" for warning in advice.warnings]
    lines.append("    adopt: true")
    if table.shape.description:
        lines.append(f"    description: {_scalar(table.shape.description)}")
    lines += _time(advice)
    lines += _partition(schema, advice)
    if advice.subject is not None:
        column, reason = advice.subject
        lines.append(f"    # subject: {_scalar(column)}  # whose data a row is, {reason}; erasure follows it")
    return lines


def _time(advice: Advice) -> list[str]:
    lines = []
    if advice.time is not None:
        lines.append(f"    time: {_scalar(advice.time.column)}  # {_comment(', '.join(advice.time.reasons))}")
    for other in advice.other_times:
        why = "" if advice.time is None else ", second to it"
        lines.append(f"    # time: {_scalar(other.column)}  # {_comment(', '.join(other.reasons))}{why}")
    return lines


def _partition(schema: str, advice: Advice) -> list[str]:
    if advice.partition is None:
        return [f"    # no partitions advised: {advice.partition_reason}"] if advice.partition_reason else []
    if advice.is_partitioned:
        return [
            f"    partition: {advice.partition}  # {advice.partition_reason}; new ones stay your own affair",
            "    # partitions_ahead: true  # let Longbox make the partitions to come",
            *_lifecycle(advice),
        ]
    return [
        f"    # {_comment(advice.partition_reason)}. First carry it over, online and reversibly:",
        f"    #   longbox partition {schema}/{advice.table.name} --by {advice.partition}",
        f"    # partition: {advice.partition}",
        "    # partitions_ahead: true",
        *_lifecycle(advice),
    ]


def _lifecycle(advice: Advice) -> list[str]:
    years = span_years(advice.time.statistics) if advice.time else None
    if years is None or years < 2:
        return []
    return [
        f"    # lifecycle: {{hot: 24 months, archive: true}}  # {years:.0f} years of rows stand in PostgreSQL"
    ]


def _size(advice: Advice) -> str:
    table, time = advice.table, advice.time
    rows = "never analysed, rows unknown" if table.rows is None else f"about {_rounded(table.rows)} rows"
    text = f"{_bytes(table.total_bytes)}, {rows}"
    years = span_years(time.statistics) if time else None
    if time is not None and years is not None:
        text += f" over {years:.1f} years by {_comment(time.column)}"
    return text


def _left_out(survey: Survey, advices: Sequence[Advice]) -> list[str]:
    lines = [
        f"#   {_comment(advice.table.name)}: {_comment(advice.refusal)}"
        for advice in advices
        if advice.refusal is not None
    ]
    lines += [
        f"#   {_comment(name)}: a {kind}, which has no life of its own"
        for name, kind in survey.others.items()
    ]
    return ["# Left out:", *lines] if lines else []


def _scalar(text: str) -> str:
    """`text` as a YAML scalar, quoted where YAML would read something else."""
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=True)


def _comment(text: str) -> str:
    """`text` on one line whatever is in it: a name with a line break would end the comment."""
    return text if text.isprintable() else json.dumps(text)


def _bytes(count: int) -> str:
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}"


def _rounded(count: int) -> str:
    for least, one, unit in ((10**9, 10**9, "G"), (10**6, 10**6, "M"), (10**4, 10**3, "k")):
        if count >= least:
            return f"{count / one:.0f}{unit}"
    return str(count)
