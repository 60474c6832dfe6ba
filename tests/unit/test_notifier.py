"""Alerts: one a cause, every channel tried, no secret shown."""

import io

from resources.notifier import Alert, Notifier, Sent

SECRET = "slack://TOKEN-1/TOKEN-2/TOKEN-3"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def notifier(clock: Clock, told: list[Alert], console: io.StringIO, **more: object) -> Notifier:
    def deliver(url: str, alert: Alert) -> bool:
        told.append(alert)
        return True

    return Notifier([SECRET], cool_down_seconds=900, clock=clock, console=console, deliver=deliver, **more)  # type: ignore[arg-type]


def test_an_alert_reaches_the_console_and_every_channel() -> None:
    told: list[Alert] = []
    console = io.StringIO()
    delivery = notifier(Clock(), told, console).send(Alert("disk", "The disk is full", "97 % of /srv"))
    assert delivery.is_sent
    assert [alert.title for alert in told] == ["The disk is full"]
    assert "ALERT critical: The disk is full\n97 % of /srv" in console.getvalue()


def test_a_cause_is_told_once_while_it_cools_down_and_then_with_its_repetitions() -> None:
    clock, told = Clock(), []
    sender = notifier(clock, told, io.StringIO())
    assert sender.send(Alert("disk", "full", "")).is_sent
    for _ in range(3):
        assert not sender.send(Alert("disk", "full, in other words", "")).is_sent
    assert sender.send(Alert("memory", "low", "")).is_sent
    clock.now += 901
    assert sender.send(Alert("disk", "full", "")).repetitions == 3
    assert [alert.title for alert in told] == ["full", "low", "full"]
    assert "came up 3 more times" in told[-1].message


def test_what_was_told_outlives_the_notifier_when_its_memory_does() -> None:
    clock, told, memory = Clock(), [], dict[str, Sent]()
    assert notifier(clock, told, io.StringIO(), memory=memory).send(Alert("disk", "full", "")).is_sent
    assert not notifier(clock, told, io.StringIO(), memory=memory).send(Alert("disk", "full", "")).is_sent


def test_a_channel_that_fails_stops_no_other_and_its_secret_stays_hidden() -> None:
    console, tried = io.StringIO(), []

    def deliver(url: str, alert: Alert) -> bool:
        tried.append(url)
        if url == SECRET:
            raise OSError(f"cannot reach {url}")
        return True

    sender = Notifier([SECRET, "json://localhost"], console=console, deliver=deliver)
    delivery = sender.send(Alert("disk", "full", ""))
    assert tried == [SECRET, "json://localhost"]
    assert delivery.failed_channels == ("channel 1 (slack)",)
    for text in (console.getvalue(), repr(sender), repr(delivery)):
        assert "TOKEN" not in text


def test_apprise_is_asked_to_deliver_and_a_url_it_does_not_know_fails() -> None:
    console = io.StringIO()
    delivery = Notifier(["nonsense://secret@host"], console=console).send(Alert("disk", "full", ""))
    assert delivery.failed_channels == ("channel 1 (nonsense)",)
    assert "secret" not in console.getvalue()
