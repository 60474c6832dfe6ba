"""Following a run while Dagster's own servers come and go."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli.dagster_client import UNANSWERED_SECONDS, DagsterClient, DagsterUnavailableError
from resources.errors import UserError

AWAY = {
    "errors": [{"message": "(psycopg2.OperationalError) server closed the connection\n\n[SQL: SELECT 1]"}]
}


def run(status: str) -> dict[str, Any]:
    return {"data": {"runOrError": {"__typename": "Run", "runId": "1", "jobName": "daily", "status": status,
                                    "startTime": None, "endTime": None, "stepStats": []}}}  # fmt: skip


@pytest.fixture
def webserver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answers one after the other; the last one for ever."""
    answers: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            body = json.dumps(answer).encode()
            self.send_response(500 if "errors" in answer or "PythonError" in str(answer) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    thread.join()
    server.server_close()


def client(url: str) -> DagsterClient:
    """A client whose time passes only while it waits."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return DagsterClient(url, clock=lambda: now[0], sleep=sleep)


def test_a_run_is_followed_through_a_restart_of_the_database(webserver) -> None:
    url, answers = webserver
    answers += [run("STARTED"), AWAY, AWAY, run("STARTED"), run("SUCCESS")]
    assert client(url).wait("1", timeout_seconds=600).status == "SUCCESS"


def test_a_database_that_stays_away_is_told_in_a_line(webserver) -> None:
    url, answers = webserver
    answers += [run("STARTED"), AWAY]
    with pytest.raises(
        DagsterUnavailableError, match=r"^Dagster could not ask its database \(\(psycopg2"
    ) as told:
        client(url).wait("1", timeout_seconds=10 * UNANSWERED_SECONDS, poll_seconds=10)
    assert "\n" not in str(told.value) and "see `longbox status`" in str(told.value)


def events(*found: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    """A page of a run's events."""
    page = {"__typename": "EventConnection", "cursor": "1", "hasMore": has_more, "events": found}
    return {"data": {"logsForRun": page}}


def test_a_failed_step_is_told_also_when_it_stands_after_many_events(webserver) -> None:
    url, answers = webserver
    step = {"stepKey": "a", "error": {"message": "outer", "causes": [{"message": "mend the file"}]}}
    engine = {"error": {"message": "the worker died", "causes": []}}
    answers += [events({"error": None}, engine, has_more=True), events(step)]
    assert client(url).failures("1") == {"a": "mend the file"}


def test_why_a_run_could_not_begin_is_told(webserver) -> None:
    url, answers = webserver
    answers.append(events({"error": {"message": "1 fault in the catalogue", "causes": []}}))
    assert client(url).failures("1") == {"run": "1 fault in the catalogue"}


def test_a_run_that_was_marked_as_failed_from_outside_says_why(webserver) -> None:
    url, answers = webserver
    engine = {"__typename": "EngineEvent", "message": "Starting the run", "error": None}
    marked = {
        "__typename": "RunFailureEvent",
        "message": "Its processes ended: launch it again.",
        "error": None,
    }
    answers.append(events({"error": None}, marked, engine))
    assert client(url).failures("1") == {"run": "Its processes ended: launch it again."}


def test_a_killed_process_of_a_run_is_told_in_plain_words(webserver) -> None:
    url, answers = webserver
    told = (
        "DagsterLaunchFailedError: GRPC server: Subprocess for 5-a terminated unexpectedly with exit code -9"
    )
    begun = "Run execution process for 5-a was terminated by signal 9 (SIGKILL). This usually indicates"
    marked = {"__typename": "RunFailureEvent", "message": "marked as failed from outside", "error": None}
    for killed in (
        {"error": {"message": told, "causes": []}},
        {"__typename": "EngineEvent", "message": begun, "error": None},
    ):
        answers[:] = [events(killed, marked)]
        assert (
            client(url)
            .failures("1")["run"]
            .startswith("its process was killed by signal 9, by hand or because")
        )


def test_who_waits_may_look_why_nobody_answers_and_end_it(webserver) -> None:
    url, answers = webserver
    answers += [run("STARTED"), AWAY]
    polls = iter(range(3))

    def look() -> None:
        if next(polls, None) is None:
            raise UserError("the stack stopped")

    with pytest.raises(UserError, match="the stack stopped"):
        client(url).wait("1", timeout_seconds=600, on_silence=look)


def test_a_full_disk_under_dagsters_database_is_told_when_a_run_is_launched(webserver) -> None:
    url, answers = webserver
    said = "sqlalchemy.exc.OperationalError: (psycopg2.errors.DiskFull) could not extend file: No space left on device"
    answers.append({"data": {"launchRun": {"__typename": "PythonError", "message": f"{said}\nHINT: ..."}}})
    with pytest.raises(
        DagsterUnavailableError, match=r"answered 500: the disk of its database is full .*device\)"
    ):
        client(url).launch("daily_pipeline")
    answers[0]["data"]["launchRun"]["message"] = "out of memory"
    with pytest.raises(DagsterUnavailableError, match="answered 500: out of memory; see `longbox status`"):
        client(url).launch("daily_pipeline")


def test_numbers_of_another_run_are_not_told_as_those_of_this_one(webserver) -> None:
    url, answers = webserver
    made = {"runId": "2", "metadataEntries": [{"label": "rows", "intValue": 3}]}
    answers.append({"data": {"assetOrError": {"__typename": "Asset", "assetMaterializations": [made]}}})
    assert client(url).latest_metadata("a/b") == client(url).latest_metadata("a/b", run_id="2") == {"rows": 3}
    assert client(url).latest_metadata("a/b", run_id="1") == {}
