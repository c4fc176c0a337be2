"""Events: every listener hears every event, and none of them can break a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cryoprotect.migrations_ext import events
from cryoprotect.migrations_ext.events import (
    Event,
    EventStream,
    RunFinished,
    RunStarted,
    StatementDone,
    StepFailed,
    StepFinished,
    StepStarted,
    Waiting,
)
from cryoprotect.migrations_ext.model import (
    Direction,
    Failure,
    Kind,
    LockHolder,
    Migration,
    Outcome,
    Plan,
    Step,
    StepResult,
)

MIGRATION = Migration("001", 1, "first", Kind.SQL, Path("/x/001_first.sql"))
STEP = Step(Direction.APPLY, MIGRATION)
RESULT = StepResult("001", "first", Outcome.APPLIED, datetime(2025, 1, 1, tzinfo=UTC), 5)
EVENTS: dict[str, Event] = {
    "run_started": RunStarted("r", Plan(Direction.APPLY, (STEP,), "development")),
    "step_started": StepStarted("r", STEP, 1, 1),
    "statement_done": StatementDone("r", "001", 1, 2, 1, 3),
    "waiting": Waiting("r", "Waiting for another run.", LockHolder(1, "web01", None)),
    "step_finished": StepFinished("r", RESULT, 1, 1),
    "step_failed": StepFailed("r", Failure("001", "first", Direction.APPLY, "boom")),
    "run_finished": RunFinished("r", Direction.APPLY, "succeeded", (RESULT,), 9),
}


class Runner:
    """Whoever sends."""


@pytest.fixture
def connect() -> Iterator[Callable[..., None]]:
    """Connect a receiver to a signal until the end of the test."""
    connected: list[tuple[Any, Any]] = []

    def add(signal: Any, receiver: Any, **options: Any) -> None:
        signal.connect(receiver, **options)
        connected.append((signal, receiver))

    yield add
    for signal, receiver in connected:
        signal.disconnect(receiver)


def test_there_is_a_signal_for_every_type_of_event() -> None:
    assert {type(e) for e in EVENTS.values()} == set(Event.__args__)
    assert all(hasattr(events, name) for name in EVENTS)


@pytest.mark.parametrize("name", EVENTS)
def test_a_hosts_receiver_hears_the_event_and_who_sent_it(name: str, connect: Callable[..., None]) -> None:
    heard: list[tuple[object, Event]] = []

    def receive(sender: object, event: Event) -> None:
        heard.append((sender, event))

    connect(getattr(events, name), receive)
    runner = Runner()
    for event in EVENTS.values():
        EventStream(runner).emit(event)
    assert heard == [(runner, EVENTS[name])]


def test_a_receiver_may_listen_to_one_sender_only(connect: Callable[..., None]) -> None:
    heard: list[object] = []
    mine, other = Runner(), Runner()

    def receive(sender: object, event: Event) -> None:
        heard.append(sender)

    connect(events.waiting, receive, sender=mine)
    for sender in (mine, other):
        EventStream(sender).emit(EVENTS["waiting"])
    assert heard == [mine]


def test_the_observers_of_a_run_hear_everything_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    stream = EventStream(Runner(), [first.append, second.append])
    for event in EVENTS.values():
        stream.emit(event)
    assert first == second == list(EVENTS.values())


def test_a_listener_that_fails_is_logged_and_breaks_nothing(
    connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def bad_observer(event: Event) -> None:
        raise ValueError("observer's fault")

    def bad_receiver(sender: object, event: Event) -> None:
        raise ValueError("receiver's fault")

    def good_receiver(sender: object, event: Event) -> None:
        heard.append("receiver")

    connect(events.run_started, bad_receiver)
    connect(events.run_started, good_receiver)
    with caplog.at_level(logging.ERROR):
        EventStream(Runner(), [bad_observer, lambda _: heard.append("observer")]).emit(EVENTS["run_started"])
    assert sorted(heard) == ["observer", "receiver"]
    assert [r.getMessage() for r in caplog.records] == ["A receiver of RunStarted failed; the run goes on."] * 2
    assert "observer's fault" in caplog.text
    assert "receiver's fault" in caplog.text


def test_a_stop_from_the_keyboard_is_no_listeners_fault() -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EventStream(Runner(), [stop]).emit(EVENTS["run_started"])


def test_nobody_listens() -> None:
    stream = EventStream(Runner())
    stream.emit(EVENTS["statement_done"])
    assert stream.wants(StatementDone) is False


def test_thousands_of_events_are_made_only_for_somebody(connect: Callable[..., None]) -> None:
    assert EventStream(Runner(), [lambda _: None]).wants(StatementDone) is True

    def receive(sender: object, event: Event) -> None:
        """Only be there."""

    connect(events.statement_done, receive)
    stream = EventStream(Runner())
    assert stream.wants(StatementDone) is True
    assert stream.wants(StepStarted) is False
