"""A signal never leaves a run half done: the statement is cancelled, the migration rolled back, and then it ends."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import click

from ..errors import RunCancelledError

if TYPE_CHECKING:
    from types import FrameType

    from ..api import Manager

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_SECONDS = 0.2 if os.name == "nt" else None
"""Only Windows has to look: elsewhere a signal wakes whoever waits in the main thread."""

STOPPING = "Stopping: cancelling the statement under way and rolling back…"
WAIT = "Still stopping: please wait until the database has rolled back, so that nothing is left half done."


class TerminatedError(RunCancelledError):
    """Raised in the place of `RunCancelledError` where SIGTERM was the cause."""

    exit_code = 143


def run(manager: Manager, call: Callable[[], T], say: Callable[[str], None]) -> T:
    """Return what `call` returns; while it runs in a thread of its own, SIGINT and SIGTERM cancel the manager's run.

    psycopg2 does not see a signal during a query, so the query must not be in the thread that gets the signals. A
    handler of the host is left in its place, and what it raises cancels the run, too. A database in memory belongs to
    the thread that opened it, so there `call` runs right here.
    """
    if threading.current_thread() is not threading.main_thread() or _is_in_memory(manager):
        return call()
    return _Worker(manager.cancel, say).run(call)


class _Worker:
    """One call in a thread of its own, and the main thread that waits for it."""

    def __init__(self, cancel: Callable[[], None], say: Callable[[str], None]) -> None:
        self._cancel = cancel
        self._say = say
        # SimpleQueue, because its put() may be called by a signal handler that interrupted its get().
        self._news: SimpleQueue[signal.Signals | None] = SimpleQueue()
        self._stopped_by: signal.Signals | None = None

    def run(self, call: Callable[[], T]) -> T:
        """Run `call` to its end, whatever arrives meanwhile."""
        outcome: list[T] = []
        error: list[BaseException] = []
        context, click_context = contextvars.copy_context(), click.get_current_context(silent=True)

        def work() -> None:
            _unblock()
            try:
                with _shared(click_context):
                    outcome.append(context.run(call))
            except BaseException as raised:  # noqa: BLE001 - carried over to the main thread
                error.append(raised)
            finally:
                self._news.put(None)

        thread = threading.Thread(target=work, name="db-migrate", daemon=True)
        with self._handlers():
            try:
                with _blocked():  # what a handler raises must not fall between the thread and its start
                    thread.start()
                self._wait()
            except BaseException:
                # A host's handler, or a handler of nobody we know, ends the main thread: not before the run.
                self._stop()
                thread.join()
                raise
        thread.join()
        if error:
            raise self._explained(error[0])
        return outcome[0]

    def _wait(self) -> None:
        """Return when the worker is done; tell it to stop when a signal arrives."""
        while True:
            try:
                news = self._news.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if news is None:
                return
            if self._stopped_by is None:
                self._stopped_by = news
                self._stop()
            else:
                self._say(WAIT)

    def _stop(self) -> None:
        """Cancel, without waiting for it: the way to the server may be as blocked as the statement is."""
        self._say(STOPPING)
        threading.Thread(target=self._try_to_cancel, name="db-migrate-cancel", daemon=True).start()

    def _try_to_cancel(self) -> None:
        try:
            self._cancel()
        except Exception as error:  # noqa: BLE001 - the run ends all the same, only later
            self._say(f"The statement could not be cancelled ({type(error).__name__}); waiting for its end.")

    def _explained(self, error: BaseException) -> BaseException:
        """Return the error that says which signal it was."""
        if type(error) is not RunCancelledError or self._stopped_by is not signal.SIGTERM:
            return error
        terminated = TerminatedError(
            error.message, version=error.version, hint=error.hint, file=error.file, line=error.line
        )
        terminated.completed = error.completed
        return terminated.with_traceback(error.__traceback__)

    @contextmanager
    def _handlers(self) -> Iterator[None]:
        """Take the signals that nobody else takes; give them back afterwards."""
        before = {}
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            # Ignored ones stay ignored (a job in the background), a host's handlers stay the host's.
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = handler
                signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._news.put(signal.Signals(number))


@contextmanager
def _blocked() -> Iterator[None]:
    """Let signals arrive only after this block; a thread that starts in it inherits that and has to `_unblock`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unblock() -> None:
    """Whatever a script starts must hear signals as ever."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextmanager
def _shared(ctx: click.Context | None) -> Iterator[None]:
    """Make the command known to this thread: an app that a script creates must see that it is not about to serve."""
    if ctx is None:
        yield
        return
    with ctx.scope(cleanup=False):
        yield


def _is_in_memory(manager: Manager) -> bool:
    url = manager.engine.url
    name = url.database
    return url.get_backend_name() == "sqlite" and (
        not name or ":memory:" in name or "mode=memory" in name or url.query.get("mode") == "memory"
    )
