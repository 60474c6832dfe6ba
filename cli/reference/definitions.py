"""What Dagster shows: every asset and check, job, schedule, sensor and resource of the bundled systems.

The code location is found by its name, as Dagster finds it: nothing imports `definitions`.
"""

import functools
import importlib
from collections import defaultdict
from typing import Any

from cli.reference.markdown import NOTE, code, first_sentence, table

_SHOWN_DEPENDENCIES = 6


@functools.cache
def _definitions() -> Any:
    return importlib.import_module("definitions").build_definitions()


def assets_page() -> str:
    """Every asset by group, with what it depends on and the checks that watch it."""
    graph = _definitions().resolve_asset_graph()
    groups: dict[str, list[Any]] = defaultdict(list)
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: str(key.to_user_string())):
        groups[str(graph.get(key).group_name)].append(graph.get(key))
    lines = [
        "# Assets and checks\n",
        "The key of a table's asset is `<system>/<table>`. What Dagster does not run is *observed*, for the lineage.",
        NOTE,
    ]
    for group, nodes in sorted(groups.items()):
        rows = [
            (code(n.key.to_user_string()), _kind(n), _parents(n), _partitions(n), _text(n)) for n in nodes
        ]
        lines += [f"## {group}\n", *table(("asset", "kind", "depends on", "partitions", "what it is"), rows)]
        lines += _checks(graph, {node.key for node in nodes})
    return "\n".join(lines)


def _kind(node: Any) -> str:
    kinds = ", ".join(sorted(node.kinds))
    return kinds if node.is_executable else f"{kinds}, observed".lstrip(", ")


def _text(node: Any) -> str:
    return first_sentence(node.description)


def _parents(node: Any) -> str:
    keys = sorted(key.to_user_string() for key in node.parent_keys)
    shown = [code(key) for key in keys[:_SHOWN_DEPENDENCIES]]
    more = len(keys) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])])


def _partitions(node: Any) -> str:
    definition = node.partitions_def
    if definition is None:
        return ""
    start = getattr(definition, "start", None)
    kind = type(definition).__name__.removesuffix("PartitionsDefinition").lower()
    return f"{kind} from {start:%Y-%m-%d}" if start is not None else kind


def _checks(graph: Any, keys: set[Any]) -> list[str]:
    found = sorted(
        (key for key in graph.asset_check_keys if key.asset_key in keys),
        key=lambda key: (key.asset_key.to_user_string(), key.name),
    )
    if not found:
        return []
    specs = [(key, graph.get_check_spec(key)) for key in found]
    rows = [
        (
            code(key.name),
            code(key.asset_key.to_user_string()),
            "yes" if spec.blocking else "",
            spec.description or "",
        )
        for key, spec in specs
    ]
    return table(("check", "of", "blocks", "what it holds"), rows)


def automation_page() -> str:
    """Every job, schedule, sensor and resource."""
    repository = _definitions().get_repository_def()
    jobs = sorted(
        (j for j in repository.get_all_jobs() if not j.name.startswith("__")), key=lambda j: str(j.name)
    )
    schedules = sorted(repository.schedule_defs, key=lambda schedule: str(schedule.name))
    sensors = sorted(repository.sensor_defs, key=lambda sensor: str(sensor.name))
    return "\n".join(
        [
            "# Jobs, schedules, sensors, resources\n",
            NOTE,
            "## Jobs\n",
            *table(("job", "partitions", "what it does"), map(_job, jobs)),
            "## Schedules\n",
            "Times are in the schedule's time zone. A schedule that is off is started in the UI under Automation.\n",
            *table(("schedule", "cron", "time zone", "job", "at first", "note"), map(_schedule, schedules)),
            "## Sensors\n",
            *table(("sensor", "at least every", "at first", "what it does"), map(_sensor, sensors)),
            "## Resources\n",
            "Assets and sensors get the plain Python object of that name.\n",
            *table(("resource", "class", "what it is"), _resources()),
        ]
    )  # fmt: skip


def _job(job: Any) -> tuple[str, ...]:
    return code(job.name), _partitions(job), job.description or ""


def _schedule(schedule: Any) -> tuple[str, ...]:
    cron = (
        schedule.cron_schedule
        if isinstance(schedule.cron_schedule, str)
        else ", ".join(schedule.cron_schedule)
    )
    state = "on" if schedule.default_status.value == "RUNNING" else "off"
    zone = schedule.execution_timezone or "UTC"
    return code(schedule.name), code(cron), zone, code(schedule.job_name), state, schedule.description or ""


def _sensor(sensor: Any) -> tuple[str, ...]:
    state = "on" if sensor.default_status.value == "RUNNING" else "off"
    return code(sensor.name), f"{sensor.minimum_interval_seconds or 30} s", state, sensor.description or ""


def _resources() -> list[tuple[str, str, str]]:
    found = sorted((_definitions().resources or {}).items())
    return [(code(name), code(type(r).__name__), first_sentence(type(r).__doc__)) for name, r in found]
