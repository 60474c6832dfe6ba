"""A small client of Dagster's GraphQL: what the UI does by hand, for the demo, scripts and the acceptance tests.

Launch a job over one partition or a range in one run, follow it step by step, start schedules and sensors, ask for
lineage. Standard library only; waiting is polling with a deadline. https://docs.dagster.io/api/graphql
"""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from resources.errors import LongboxError, RetryableError

LOCATION, REPOSITORY = "longbox", "__repository__"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
UNANSWERED_SECONDS = 120.0

_KILLED = re.compile(
    r"(?:Subprocess for \S+ terminated unexpectedly with exit code -|Run execution process for \S+ was terminated by "
    r"signal )(\d+)"
)
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message }
  ... on PipelineNotFoundError { message } ... on UnauthorizedError { message } } }"""
_JOBS = """query($selector: RepositorySelector!) { repositoryOrError(repositorySelector: $selector) { __typename
  ... on Repository { jobs { name } } ... on PythonError { message } ... on RepositoryNotFoundError { message } } }"""
_PARTITIONS = """query($selector: PipelineSelector!) { pipelineOrError(params: $selector) { __typename
  ... on Pipeline { partitionKeysOrError { partitionKeys } }
  ... on PipelineNotFoundError { message } ... on PythonError { message } } }"""
_RUN = """query($id: ID!) { runOrError(runId: $id) { __typename ... on Run { runId jobName status startTime endTime
  stepStats { stepKey status startTime endTime } }
  ... on RunNotFoundError { message } ... on PythonError { message } } }"""
_RUNS = """query($filter: RunsFilter, $limit: Int) { runsOrError(filter: $filter, limit: $limit) { __typename
  ... on Runs { results { runId status tags { key value } } } ... on PythonError { message } } }"""
_ERRORS = """query($id: ID!, $after: String) { logsForRun(runId: $id, afterCursor: $after) { __typename
  ... on EventConnection { cursor hasMore events { __typename
    ... on ExecutionStepFailureEvent { stepKey error { message causes { message } } }
    ... on RunFailureEvent { message error { message causes { message } } }
    ... on EngineEvent { message error { message causes { message } } } } } } }"""
_METADATA = """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { __typename
  ... on Asset { assetMaterializations(limit: 1) { runId metadataEntries { label
    ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
    ... on TextMetadataEntry { text } } } }
  ... on AssetNotFoundError { message } } }"""
_BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename
  ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  ... on PartitionKeysNotFoundError { message } ... on InvalidSubsetError { message } } }"""
_BACKFILL_STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename
  ... on PartitionBackfill { status numPartitions error { message } } ... on PythonError { message } } }"""
_START_SCHEDULE = """mutation($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) { __typename
  ... on ScheduleStateResult { scheduleState { id status } } ... on PythonError { message } } }"""
_STOP_SCHEDULE = """mutation($id: String!) { stopRunningSchedule(id: $id) { __typename
  ... on ScheduleStateResult { scheduleState { status } } ... on PythonError { message } } }"""
_TICKS = """query($selector: SensorSelector!, $limit: Int!) { sensorOrError(sensorSelector: $selector) { __typename
  ... on Sensor { sensorState { ticks(limit: $limit) { status skipReason timestamp runIds error { message } } } }
  ... on SensorNotFoundError { message } ... on PythonError { message } } }"""
_START_SENSOR = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename
  ... on Sensor { id sensorState { status } }
  ... on SensorNotFoundError { message } ... on PythonError { message } } }"""
_STOP_SENSOR = """mutation($id: String!) { stopSensor(id: $id) { __typename
  ... on StopSensorMutationResult { instigationState { status } } ... on PythonError { message } } }"""


class DagsterClientError(LongboxError):
    """Dagster refused what was asked of it."""


class DagsterUnavailableError(RetryableError):
    """The webserver did not answer."""


@dataclass(frozen=True)
class Step:
    """One step of a run. Times are seconds since the epoch, None while it did not begin or end."""

    key: str
    status: str
    started_at: float | None
    ended_at: float | None

    @property
    def seconds(self) -> float | None:
        """How long it took, None while it runs."""
        return None if self.started_at is None or self.ended_at is None else self.ended_at - self.started_at


@dataclass(frozen=True)
class Run:
    """A run as it is now; `steps` in the order in which they began."""

    run_id: str
    job_name: str
    status: str
    steps: tuple[Step, ...]
    seconds: float | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED


class DagsterClient:
    """Speaks to one webserver. `url` is the UI's address, as in http://127.0.0.1:3000."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._clock, self._sleep = clock, sleep
        # loopback is never reached through a proxy that the environment names
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """The `data` of a GraphQL answer. Raises `DagsterClientError`, `DagsterUnavailableError`."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            data=json.dumps({"query": text, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            answer = _json(error.read())
            if not answer.get("errors"):
                raise DagsterUnavailableError(
                    f"the Dagster webserver at {self.url} answered {error.code}{_why(answer)}"
                ) from error
        except (OSError, ValueError) as error:
            raise DagsterUnavailableError(
                f"the Dagster webserver at {self.url} did not answer ({error}); see `longbox status`"
            ) from error
        if answer.get("errors"):
            told = "; ".join(
                str(error.get("message")).strip().split("\n", 1)[0] for error in answer["errors"]
            )
            if "OperationalError" in told:  # its database is away: as passing as a webserver that is
                raise DagsterUnavailableError(
                    f"Dagster could not ask its database ({told}); see `longbox status`"
                )
            raise DagsterClientError(f"Dagster could not answer: {told}")
        return dict(answer["data"])

    def launch(
        self,
        job: str,
        *,
        partition: str | None = None,
        partition_range: tuple[str, str] | None = None,
        assets: Sequence[str] | None = None,
    ) -> str:
        """Launch `job` for one partition or, as ONE run, a range of them; returns the run's id.

        `assets` (as in comics/pricing_data_raw) narrows the job. A range launched so needs no backfill daemon.
        """
        tags = {"dagster/partition": partition} if partition else {}
        if partition_range:
            tags |= dict(zip((RANGE_START, RANGE_END), partition_range, strict=True))
        selector: dict[str, Any] = _selector(pipelineName=job)
        if assets is not None:
            selector["assetSelection"] = [{"path": asset.split("/")} for asset in assets]
        params = {
            "selector": selector,
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._expect(
            self.query(_LAUNCH, params=params)["launchRun"], "LaunchRunSuccess", f"launch {job}"
        )
        return str(answer["run"]["runId"])

    def jobs(self) -> list[str]:
        """Names of the jobs that can be launched."""
        answer = self.query(_JOBS, selector=_selector())["repositoryOrError"]
        found = self._expect(answer, "Repository", "list its jobs")["jobs"]
        return sorted(str(job["name"]) for job in found if not job["name"].startswith("__"))

    def partitions(self, job: str) -> list[str]:
        """Partition keys of `job` in order, empty if it has none. Raises `DagsterClientError` for an unknown job."""
        answer = self.query(_PARTITIONS, selector=_selector(pipelineName=job))["pipelineOrError"]
        return list(self._expect(answer, "Pipeline", f"find {job}")["partitionKeysOrError"]["partitionKeys"])

    def backfill(self, assets: Sequence[str], partitions: Sequence[str]) -> str:
        """Launch a backfill as the UI's dialogue does; returns its id. The backfill daemon ticks every 30 s."""
        params = {
            "partitionNames": list(partitions),
            "assetSelection": [{"path": a.split("/")} for a in assets],
        }
        answer = self.query(_BACKFILL, params=params)["launchPartitionBackfill"]
        return str(self._expect(answer, "LaunchBackfillSuccess", "launch the backfill")["backfillId"])

    def backfill_status(self, backfill_id: str) -> str:
        """REQUESTED, COMPLETED_SUCCESS, COMPLETED_FAILED, ..."""
        answer = self.query(_BACKFILL_STATUS, id=backfill_id)["partitionBackfillOrError"]
        return str(self._expect(answer, "PartitionBackfill", f"find backfill {backfill_id}")["status"])

    def run(self, run_id: str) -> Run:
        """A run as it is now."""
        found = self._expect(self.query(_RUN, id=run_id)["runOrError"], "Run", f"find run {run_id}")
        steps = [Step(s["stepKey"], s["status"], s["startTime"], s["endTime"]) for s in found["stepStats"]]
        began, ended = found["startTime"], found["endTime"]
        return Run(
            run_id=run_id,
            job_name=found["jobName"],
            status=found["status"],
            steps=tuple(sorted(steps, key=lambda step: step.started_at or float("inf"))),
            seconds=ended - began if began is not None and ended is not None else None,
        )

    def wait(
        self,
        run_id: str,
        *,
        timeout_seconds: float,
        poll_seconds: float = 0.5,
        on_progress: Callable[[Run], None] | None = None,
        on_silence: Callable[[], None] = lambda: None,
    ) -> Run:
        """Poll until the run ends. Raises `DagsterClientError` when it has not by the deadline.

        Raises `DagsterUnavailableError` when nothing was answered for `UNANSWERED_SECONDS`: a server that restarts
        takes its runs up again. `on_silence` is called at each poll that nobody answers, and may raise before.
        """
        deadline = self._clock() + timeout_seconds
        answered_at = self._clock()
        while True:
            try:
                run = self.run(run_id)
            except DagsterUnavailableError:
                on_silence()
                if self._clock() > answered_at + UNANSWERED_SECONDS:
                    raise
                self._sleep(poll_seconds)
                continue
            answered_at = self._clock()
            if on_progress is not None:
                on_progress(run)
            if run.has_ended:
                return run
            if self._clock() > deadline:
                raise DagsterClientError(
                    f"run {run_id} of {run.job_name} is still {run.status} after {timeout_seconds:g} s; "
                    f"look at it in {self.url}/runs/{run_id}"
                )
            self._sleep(poll_seconds)

    def runs(
        self, *, job: str | None = None, tags: dict[str, str] | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """The newest runs as {runId, status, tags}, newest first."""
        wanted: dict[str, Any] = {"pipelineName": job} if job else {}
        wanted["tags"] = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        answer = self._expect(
            self.query(_RUNS, filter=wanted, limit=limit)["runsOrError"], "Runs", "list runs"
        )
        return [
            run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in answer["results"]
        ]

    def failures(self, run_id: str) -> dict[str, str]:
        """The failed steps of a run, each with the error of our code below Dagster's own.

        Of a run that could not begin, as with a fault in a system.yaml, or whose process ended, why, under "run".
        """
        steps: dict[str, str] = {}
        engine: dict[str, str] = {}
        marked: dict[str, str] = {}
        for event in self._errors(run_id):
            error = event.get("error")
            if error is None:
                told = str(event["message"]).strip()
                if _KILLED.search(told):
                    engine["run"] = _in_plain_words(told)
                elif event["__typename"] == "RunFailureEvent":
                    marked["run"] = told
                continue
            found = steps if "stepKey" in event else engine
            cause = (error["causes"] or [error])[0]
            found[event.get("stepKey", "run")] = _in_plain_words(str(cause["message"]).strip())
        return steps or engine or marked

    def _errors(self, run_id: str) -> Iterator[dict[str, Any]]:
        """The events of a run that tell of a failure, page by page: a range of days has many events."""
        after: str | None = None
        while True:
            answer = self._expect(
                self.query(_ERRORS, id=run_id, after=after)["logsForRun"],
                "EventConnection",
                f"read run {run_id}",
            )
            yield from (event for event in answer["events"] if event.get("error") or event.get("message"))
            if not answer["hasMore"]:
                return
            after = answer["cursor"]

    def latest_metadata(self, asset: str, *, run_id: str | None = None) -> dict[str, Any]:
        """Numbers and texts of the newest materialisation of `asset` (as in platform/cache), by label.

        None of them when `run_id` is given and another run made it.
        """
        answer = self.query(_METADATA, key={"path": asset.split("/")})["assetOrError"]
        events = self._expect(answer, "Asset", f"find asset {asset}")["assetMaterializations"]
        if not events:
            raise DagsterClientError(f"{asset} was never materialised; launch it first")
        found: dict[str, Any] = {}
        if run_id not in (None, events[0]["runId"]):
            return found
        for entry in events[0]["metadataEntries"]:
            values = [
                entry[name] for name in ("intValue", "floatValue", "text") if entry.get(name) is not None
            ]
            if values:
                found[str(entry["label"])] = values[0]
        return found

    def start_schedule(self, name: str) -> str:
        """Start a schedule; returns the id by which it is stopped."""
        answer = self.query(_START_SCHEDULE, selector=_selector(scheduleName=name))["startSchedule"]
        return str(self._expect(answer, "ScheduleStateResult", f"start {name}")["scheduleState"]["id"])

    def stop_schedule(self, state_id: str) -> None:
        """Stop a schedule that `start_schedule` started."""
        answer = self.query(_STOP_SCHEDULE, id=state_id)["stopRunningSchedule"]
        self._expect(answer, "ScheduleStateResult", "stop the schedule")

    def start_sensor(self, name: str) -> str:
        """Start a sensor; returns the id by which it is stopped."""
        answer = self.query(_START_SENSOR, selector=_selector(sensorName=name))["startSensor"]
        return str(self._expect(answer, "Sensor", f"start {name}")["id"])

    def stop_sensor(self, sensor_id: str) -> None:
        """Stop a sensor that `start_sensor` started."""
        answer = self.query(_STOP_SENSOR, id=sensor_id)["stopSensor"]
        self._expect(answer, "StopSensorMutationResult", "stop the sensor")

    def sensor_ticks(self, name: str, *, limit: int = 10) -> list[dict[str, Any]]:
        """The newest ticks of a sensor, newest first: status, skipReason, timestamp, runIds, error."""
        answer = self.query(_TICKS, selector=_selector(sensorName=name), limit=limit)["sensorOrError"]
        return list(self._expect(answer, "Sensor", f"find {name}")["sensorState"]["ticks"])

    def _expect(self, answer: dict[str, Any], kind: str, act: str) -> dict[str, Any]:
        if answer["__typename"] == kind:
            return answer
        errors = answer.get("errors") or [answer]
        told = "; ".join(str(error.get("message", answer["__typename"])) for error in errors)
        raise DagsterClientError(f"Dagster did not {act}: {told}")


def _in_plain_words(told: str) -> str:
    """What Dagster says of a killed process, for who does not know its parts; any other error as it is."""
    if found := _KILLED.search(told):
        return (
            f"its process was killed by signal {found[1]}, by hand or because memory ran out (`dmesg` tells). "
            "What it had committed stays: launch the run again"
        )
    return told


def _why(answer: dict[str, Any]) -> str:
    """What stands in an answer that was sent as a failure of the server, in a line, and what to do."""
    found = [
        str(part["message"]) for part in (answer.get("data") or {}).values() if "message" in (part or {})
    ]
    told = found[0].strip().split("\n", 1)[0] if found else ""
    if "No space left on device" in told:
        return f": the disk of its database is full ({told}); make room there, then try again"
    return f"{f': {told}' if told else ''}; see `longbox status` and `longbox doctor`"


def _selector(**names: str) -> dict[str, Any]:
    return {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, **names}


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
