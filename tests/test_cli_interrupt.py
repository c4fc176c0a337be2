"""A signal during a run: the run is cancelled and waited for, other people's handlers and threads are left alone."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import click
import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext.cli.interrupt import STOPPING, WAIT, run
from cryoprotect.migrations_ext.errors import RunCancelledError
from cryoprotect.migrations_ext.model import Outcome, StepResult

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class FakeManager:
    """A run that goes on until it is cancelled, and takes its time to end."""

    def __init__(self, url: str = "sqlite:///file.sqlite") -> None:
        self.engine = SimpleNamespace(url=sa.make_url(url))
        self.cancelled = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def cancel(self) -> None:
        """As `Manager.cancel`."""
        self.cancelled.set()

    def work(self, *signals: signal.Signals) -> None:
        """Send signals to this process, wait to be cancelled, and end as the runner does."""
        for number in signals:
            os.kill(os.getpid(), number)
        assert self.cancelled.wait(10), "nobody cancelled the run"
        assert self.may_end.wait(10)
        error = RunCancelledError("Stopped.")
        error.completed = (StepResult("001", "a", Outcome.APPLIED),)
        raise error


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Every test starts with the handlers of a plain process, and none leaves its own behind."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    for number, handler in before.items():
        signal.signal(number, handler)


def ignore(_line: str) -> None:
    """Hear nothing."""


def test_returns_what_the_call_returns_and_raises_what_it_raises() -> None:
    manager: Any = FakeManager()
    assert run(manager, lambda: 7, ignore) == 7
    with pytest.raises(ZeroDivisionError):
        run(manager, lambda: 1 // 0, ignore)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_cancels_and_decides_the_exit_code(number: signal.Signals, code: int) -> None:
    manager: Any = FakeManager()
    said: list[str] = []
    with pytest.raises(RunCancelledError) as caught:
        run(manager, lambda: manager.work(number), said.append)
    assert caught.value.exit_code == code
    assert [r.version for r in caught.value.completed] == ["001"]
    assert said == [STOPPING]


def test_the_second_is_told_to_wait() -> None:
    manager: Any = FakeManager()
    manager.may_end.clear()
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        if line == STOPPING:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            manager.may_end.set()

    with pytest.raises(RunCancelledError):
        run(manager, lambda: manager.work(signal.SIGINT), hear)
    assert said == [STOPPING, WAIT]


def test_work_that_is_done_before_it_can_be_stopped_counts_as_done() -> None:
    manager: Any = FakeManager()

    def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        assert manager.cancelled.wait(10)
        return "done"

    assert run(manager, work, ignore) == "done"


def test_a_cancel_that_fails_is_told_and_the_run_waited_for() -> None:
    manager: Any = FakeManager()
    heard = threading.Event()
    said: list[str] = []

    def fail() -> None:
        raise OSError("no way to the server")

    def hear(line: str) -> None:
        said.append(line)
        if "could not be cancelled" in line:
            heard.set()

    def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        assert heard.wait(10)
        return "done"

    manager.cancel = fail
    assert run(manager, work, hear) == "done"
    assert "OSError" in said[-1]


def test_the_worker_sees_the_caller_s_context() -> None:
    manager: Any = FakeManager()
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    with click.Context(click.Command("apply")) as ctx:
        seen = run(
            manager,
            lambda: (variable.get(), click.get_current_context(silent=True), threading.current_thread()),
            ignore,
        )
    assert seen[:2] == ("mine", ctx)
    assert seen[2] is not threading.main_thread()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true", "sqlite:///file::memory:"]
)
def test_a_database_in_memory_stays_in_its_thread(url: str) -> None:
    manager: Any = FakeManager(url)
    assert run(manager, threading.current_thread, ignore) is threading.current_thread()


def test_a_call_from_another_thread_stays_there() -> None:
    manager: Any = FakeManager()
    seen: list[threading.Thread] = []
    thread = threading.Thread(target=lambda: seen.append(run(manager, threading.current_thread, ignore)))
    thread.start()
    thread.join()
    assert seen == [thread]


def test_a_handler_of_the_host_stays_and_what_it_raises_stops_the_run() -> None:
    manager: Any = FakeManager()
    said: list[str] = []

    class HostIsLeaving(BaseException):
        pass

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise HostIsLeaving

    signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(HostIsLeaving):
            run(manager, lambda: manager.work(signal.SIGTERM), said.append)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert said == [STOPPING]


def test_an_ignored_signal_stays_ignored() -> None:
    manager: Any = FakeManager()

    def work() -> Callable[..., Any] | int | None:
        os.kill(os.getpid(), signal.SIGINT)
        return signal.getsignal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(manager, work, ignore) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert not manager.cancelled.is_set()
