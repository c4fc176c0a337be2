"""What happens in a run: one type per event, and the blinker signals that carry them to a host's receivers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from blinker import Namespace

from .model import Direction, Failure, LockHolder, Outcome, Plan, Step, StepResult

_logger = logging.getLogger(__name__)
_signals = Namespace()


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The lock is held and the plan is made; nothing ran yet."""

    run_id: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A script is about to run."""

    run_id: str
    step: Step
    position: int
    """1-based."""
    total: int


@dataclass(frozen=True, slots=True)
class StatementDone:
    """A statement of a script has been executed."""

    run_id: str
    version: str
    number: int
    """1-based, within the script."""
    count: int | None
    """How many there are in this call, where that is known."""
    line: int | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run waits: for the migration lock, or before trying again after a lock timeout or a deadlock."""

    run_id: str
    reason: str
    """A sentence for a person."""
    holder: LockHolder | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A script ran, and its row is committed with it."""

    run_id: str
    result: StepResult
    position: int
    total: int


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A script failed; `failure` says what state the database is in."""

    run_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over."""

    run_id: str
    direction: Direction
    outcome: str
    """`succeeded`, `failed` or `cancelled`."""
    results: tuple[StepResult, ...]
    duration_ms: int


Event = RunStarted | StepStarted | StatementDone | Waiting | StepFinished | StepFailed | RunFinished
Observer = Callable[[Event], None]

run_started = _signals.signal("run-started")
step_started = _signals.signal("step-started")
statement_done = _signals.signal("statement-done")
waiting = _signals.signal("waiting")
step_finished = _signals.signal("step-finished")
step_failed = _signals.signal("step-failed")
run_finished = _signals.signal("run-finished")

_SIGNAL_OF = {
    RunStarted: run_started,
    StepStarted: step_started,
    StatementDone: statement_done,
    Waiting: waiting,
    StepFinished: step_finished,
    StepFailed: step_failed,
    RunFinished: run_finished,
}


class EventStream:
    """Hands each event to the observers of a run and to the signals; a receiver that fails never breaks a run."""

    def __init__(self, sender: object, observers: Iterable[Observer] = ()) -> None:
        self._sender = sender
        self._observers = tuple(observers)

    def emit(self, event: Event) -> None:
        """Tell everyone who listens. What a receiver raises is logged, with its traceback, and goes no further."""
        for observer in self._observers:
            self._call(observer, event)
        signal = _SIGNAL_OF[type(event)]
        if signal.receivers:
            for receiver in signal.receivers_for(self._sender):
                self._call(functools.partial(_receive, receiver, self._sender), event)

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody would hear an event of this type (saves making thousands for nobody)."""
        return bool(self._observers) or bool(_SIGNAL_OF[kind].receivers)

    @staticmethod
    def _call(receiver: Callable[[Event], object], event: Event) -> None:
        try:
            receiver(event)
        except Exception:  # a listener's fault is not the migration's
            _logger.exception("A receiver of %s failed; the run goes on.", type(event).__name__)


def _receive(receiver: Callable[..., object], sender: object, event: Event) -> None:
    receiver(sender, event=event)


__all__ = [
    "Event",
    "EventStream",
    "Observer",
    "Outcome",
    "RunFinished",
    "RunStarted",
    "StatementDone",
    "StepFailed",
    "StepFinished",
    "StepStarted",
    "Waiting",
]
