"""One run under the lock: the loop over the steps, each script in one transaction with its rows."""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from . import discovery, journal
from .connection import MigrationConnection, Progress, StatementReport
from .dialects import MigrationLock, Session, Write
from .dialects.base import Place
from .discovery import Script
from .errors import MigrationError, MigrationFailed, PlanChangedError, RunCancelledError
from .events import (
    EventStream,
    Observer,
    RunFinished,
    RunStarted,
    StatementDone,
    StepFailed,
    StepFinished,
    StepStarted,
    Waiting,
)
from .failure import Circumstances, build_failure
from .journal import Author
from .model import Direction, LockHolder, Outcome, Plan, Step, StepResult
from .planning import Target
from .redaction import redact
from .tracker import History, RowFacts

if TYPE_CHECKING:
    from .runner import Runner

_logger = logging.getLogger(__name__)


class Execution:
    """One run under the lock: its id, its events, and the loop over the steps."""

    def __init__(self, runner: Runner, direction: Direction, observers: Iterable[Observer]) -> None:
        self._runner = runner
        self._dialect = runner.dialect
        self._direction = direction
        self._id = secrets.token_hex(8)
        self._sequence = 0
        self._stream = EventStream(runner.sender, observers)
        self._author = Author(
            actor=runner.actor,
            source=runner.source,
            environment=runner.environment,
            git_commit=journal.git_commit(runner.directory),
        )
        self._done: list[StepResult] = []

    def execute(self, lock: MigrationLock, target: Target, expected: Plan | None) -> tuple[StepResult, ...]:
        """Read again under the lock, prepare, and run the plan."""
        runner = self._runner
        history = runner.tracker.read(lock.connection)
        directory = discovery.scan(runner.directory)
        plan = runner.plan_from(self._direction, directory, history, target)
        if not plan.steps:
            return ()
        if expected is not None and not same_steps(expected, plan):
            raise PlanChangedError(
                "Files or history changed since the plan was shown; nothing was run.",
                hint="Run the command again and look at the new plan.",
            )
        runner.inspect(plan)
        self._prepare(lock, history)
        return self._run_steps(lock, plan)

    def event(self, place: Place, event: str, **facts: Any) -> Write:
        """Return the next journal row of this run."""
        self._sequence += 1
        make = self._runner.journal.event
        return make(place, self._author, self._id, self._sequence, event, **facts)

    def waiting_for_lock(self, holder: LockHolder | None) -> None:
        """Say that another run holds the lock."""
        reason = f"Waiting for another migration run to finish: {holder or 'its process cannot be seen'}."
        self._stream.emit(Waiting(self._id, reason, holder))

    def _prepare(self, lock: MigrationLock, history: History) -> None:
        """Make sure that the tables are there and that this is the environment they were made for."""
        runner = self._runner
        writes = runner.missing_tables(lock, history)
        remembered = runner.remembered_environment(lock) if runner.has_journal(lock) else None
        if remembered is None:
            writes.append(self.event(lock.place, journal.ENVIRONMENT_SET))
        elif remembered != runner.environment:
            raise runner.mismatch(remembered)
        lock.write(writes)

    def _run_steps(self, lock: MigrationLock, plan: Plan) -> tuple[StepResult, ...]:
        started = time.monotonic()
        self._stream.emit(RunStarted(self._id, plan))
        detail = {"steps": [s.migration.version for s in plan.steps]}
        lock.write([self.event(lock.place, journal.RUN_STARTED, direction=self._direction, detail=detail)])
        outcome, error_text = "failed", None
        try:
            with _Sessions(self._runner, lock) as sessions:
                for position, step in enumerate(plan.steps, 1):
                    self._check_stop()
                    self._stream.emit(StepStarted(self._id, step, position, len(plan.steps)))
                    result = self._step(lock, sessions, step)
                    self._done.append(result)
                    self._stream.emit(StepFinished(self._id, result, position, len(plan.steps)))
            outcome = "succeeded"
        except RunCancelledError as error:
            outcome, error_text = "cancelled", error.message
            error.completed = tuple(self._done)
            raise
        except MigrationError as error:
            error_text = redact(error.message)
            if not error.completed:
                error.completed = tuple(self._done)
            raise
        finally:
            self._finish(lock, outcome, error_text, started)
        return tuple(self._done)

    def _finish(self, lock: MigrationLock, outcome: str, error: str | None, started: float) -> None:
        duration = round((time.monotonic() - started) * 1000)
        self._write_word(
            lock,
            [
                self.event(
                    lock.place,
                    journal.RUN_FINISHED,
                    direction=self._direction,
                    outcome=outcome,
                    error=error,
                    detail={"duration_ms": duration},
                )
            ],
        )
        self._stream.emit(RunFinished(self._id, self._direction, outcome, tuple(self._done), duration))

    def _step(self, lock: MigrationLock, sessions: _Sessions, step: Step) -> StepResult:
        """Run one script; try again after a lock timeout or a deadlock, in which nothing was done."""
        script = self._runner.load(step)
        transactional = script.transactional
        attempt = self._in_transaction if transactional else self._without_transaction
        for tries in range(self._runner.settings.retries + 1):
            tracking = _Attempt()
            try:
                return attempt(lock, sessions, step, script, tracking)
            except BaseException as error:
                sessions.renew()  # whatever the script left in the session goes with it
                again = transactional and tries < self._runner.settings.retries
                if again and self._dialect.is_retryable(error) and not self._runner.stop.is_set():
                    self._wait_and_retry(script, error, tries)
                    continue
                self._fail(lock, script, error, tracking, transactional=transactional)
                raise
        raise AssertionError("the last try returns or raises")

    def _in_transaction(
        self, lock: MigrationLock, sessions: _Sessions, step: Step, script: Script, tracking: _Attempt
    ) -> StepResult:
        session = sessions.current()
        started = time.monotonic()
        moment = session.begin()
        try:
            self._call(session, script, tracking, transactional=True)
            session.check()
            duration = round((time.monotonic() - started) * 1000)
            tracking.committing = True
            session.commit(self._rows(lock.place, step, script, duration))
        except BaseException as error:
            session.rollback()
            if not (tracking.committing and self._dialect.is_unavailable(error)):
                raise
            tracking.committed = self._was_committed(step)
            if not tracking.committed:
                raise
            # The answer to COMMIT was lost, the commit was not: the row is there.
            sessions.renew()
        return self._result(step, moment, duration)

    def _without_transaction(
        self, lock: MigrationLock, sessions: _Sessions, step: Step, script: Script, tracking: _Attempt
    ) -> StepResult:
        """Mark the migration as running first and as done last: between the two it can be told as interrupted."""
        session = sessions.current()
        started = time.monotonic()
        moment = session.begin_autocommit()
        lock.write(self._running_rows(lock.place, step))
        self._call(session, script, tracking, transactional=False)
        session.end_autocommit()
        duration = round((time.monotonic() - started) * 1000)
        facts = RowFacts(self._author.environment, self._author.actor, duration)
        tracker = self._runner.tracker
        if step.direction is Direction.APPLY:
            last = tracker.finish(lock.place, step.migration, facts)
        else:
            assert step.applied is not None
            last = tracker.remove(lock.place, step.applied)
        lock.write([last, *self._journal_rows(lock.place, step, script, duration)])
        return self._result(step, moment, duration)

    def _call(self, session: Session, script: Script, tracking: _Attempt, *, transactional: bool) -> None:
        conn = MigrationConnection(
            session.connection,
            self._dialect,
            transactional=transactional,
            on_statement=self._statement_observer(script),
        )
        tracking.progress = conn.progress
        try:
            if script.code is None:
                conn.run_script(script.text, script.first_line)
            else:
                with _same_working_directory(), discovery.loaded_function(script) as function:
                    function(conn, self._runner.environment)
            conn.check()
            for forgotten in conn.unexecuted():
                _logger.warning("%s: %s was built but never executed.", script.path.name, forgotten)
        finally:
            conn.release()

    def _statement_observer(self, script: Script) -> Callable[[StatementReport], None]:
        wanted = self._stream.wants(StatementDone)
        version = script.migration.version

        def observe(report: StatementReport) -> None:
            self._check_stop()
            if wanted:
                self._stream.emit(
                    StatementDone(self._id, version, report.number, report.count, report.line, report.duration_ms)
                )

        return observe

    def _check_stop(self) -> None:
        if self._runner.stop.is_set():
            raise RunCancelledError("Stopped.")

    def _rows(self, place: Place, step: Step, script: Script, duration: int) -> list[Write]:
        tracker = self._runner.tracker
        facts = RowFacts(self._author.environment, self._author.actor, duration)
        rows = []
        if step.applied is not None:  # a rollback's own row, or a stale one that stands in the way
            rows.append(tracker.remove(place, step.applied))
        if step.direction is Direction.APPLY:
            rows.append(tracker.record(place, script.migration, facts))
        return rows + self._journal_rows(place, step, script, duration)

    def _running_rows(self, place: Place, step: Step) -> list[Write]:
        tracker = self._runner.tracker
        facts = RowFacts(self._author.environment, self._author.actor, 0)
        rows = []
        if step.direction is Direction.ROLLBACK:
            assert step.applied is not None
            rows.append(tracker.mark(place, step.applied, "running"))
        else:
            if step.applied is not None:
                rows.append(tracker.remove(place, step.applied))
            rows.append(tracker.record(place, step.migration, facts, status="running"))
        started = self.event(place, journal.STEP_STARTED, version=step.migration.version, direction=step.direction)
        return [*rows, started]

    def _journal_rows(self, place: Place, step: Step, script: Script, duration: int) -> list[Write]:
        header = script.migration.header
        assert header is not None
        outcome = Outcome.APPLIED if step.direction is Direction.APPLY else Outcome.ROLLED_BACK
        detail = {"name": script.migration.name, "duration_ms": duration}
        if header.rollback_checksum:
            detail["rollback_checksum"] = header.rollback_checksum
        rows = [
            self.event(
                place,
                journal.STEP_FINISHED,
                version=script.migration.version,
                direction=step.direction,
                outcome=outcome.value,
                checksum=header.checksum,
                detail=detail,
            )
        ]
        if step.direction is Direction.APPLY:
            # Kept so that an edited or lost file can be compared, rolled back and restored.
            apply_text, rollback_text = discovery.texts(script.migration)
            rows.append(self._runner.journal.text(place, header.checksum, apply_text))
            if header.rollback_checksum and rollback_text is not None:
                rows.append(self._runner.journal.text(place, header.rollback_checksum, rollback_text))
        return rows

    def _result(self, step: Step, moment: datetime, duration: int) -> StepResult:
        applied = step.direction is Direction.APPLY
        return StepResult(
            version=step.migration.version,
            name=step.migration.name,
            outcome=Outcome.APPLIED if applied else Outcome.ROLLED_BACK,
            applied_at=moment if applied else None,
            duration_ms=duration,
            script=step.migration.apply_path,
        )

    def _was_committed(self, step: Step) -> bool | None:
        """Ask a new connection what became of a COMMIT whose answer was lost; None where nobody answers."""
        for pause in (0.0, 0.5, 1.0, 2.0):
            time.sleep(pause)
            try:
                rows = self._runner.read().rows
            except (MigrationError, SQLAlchemyError):
                continue
            there = any(row.is_applied and row.number == step.migration.number for row in rows)
            return there if step.direction is Direction.APPLY else not there
        return None

    def _wait_and_retry(self, script: Script, error: BaseException, tries: int) -> None:
        complaint = self._dialect.complaint(error)
        seconds = min(30.0, 2.0 ** min(tries, 5)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        reason = (
            f"{script.migration.label}: {complaint.message if complaint else error}; "
            f"it was rolled back and is tried again in {seconds:.1f} s "
            f"({tries + 1} of {self._runner.settings.retries})."
        )
        self._stream.emit(Waiting(self._id, reason, version=script.migration.version))
        if self._runner.stop.wait(seconds):
            raise RunCancelledError("Stopped.")

    def _fail(
        self, lock: MigrationLock, script: Script, error: BaseException, tracking: _Attempt, *, transactional: bool
    ) -> None:
        """Journal the failed step and raise its report; a stop by a signal is no failure of the script."""
        if self._runner.stop.is_set() or isinstance(error, RunCancelledError):
            left = "was rolled back completely" if transactional else "is marked as interrupted"
            raise RunCancelledError(
                f"Stopped while {script.migration.label} ran; it {left}.",
                version=script.migration.version,
                hint=f"Run `flask db-migrate {script.direction.value}` again when you are ready.",
            ) from error
        failure = build_failure(
            self._dialect,
            Circumstances(script, error, tracking.progress, self._done, transactional, tracking.committed),
        )
        self._write_word(
            lock,
            [
                self.event(
                    lock.place,
                    journal.STEP_FAILED,
                    version=failure.version,
                    direction=failure.direction,
                    outcome=Outcome.FAILED.value,
                    statement=failure.statement_number,
                    error=redact(failure.message),
                    detail={
                        "name": failure.name,
                        "line": failure.line,
                        "file": failure.file.name if failure.file else None,
                    },
                )
            ],
        )
        self._stream.emit(StepFailed(self._id, failure))
        if isinstance(error, KeyboardInterrupt):
            return  # the caller's own; it goes on up as it is
        raise MigrationFailed(failure) from error

    def _write_word(self, lock: MigrationLock, writes: Sequence[Write]) -> None:
        """Journal an end; where the database is gone that is no reason to hide the error before it."""
        try:
            lock.write(writes)
        except Exception as error:  # noqa: BLE001
            _logger.warning("The journal could not be written: %s", redact(str(error).partition("\n")[0]))


@contextmanager
def _same_working_directory() -> Iterator[None]:
    """A script that goes elsewhere must not take the next one, or the host, with it."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed under us
        yield
        return
    try:
        yield
    finally:
        os.chdir(here)


class _Attempt:
    """What is known about one try of one script, for the report when it fails."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.committing = False
        self.committed: bool | None = False


class _Sessions:
    """The session of a run, opened when first needed and renewed after a failure."""

    def __init__(self, runner: Runner, lock: MigrationLock) -> None:
        self._runner = runner
        self._lock = lock
        self._stack = ExitStack()
        self._session: Session | None = None

    def __enter__(self) -> _Sessions:
        return self

    def __exit__(self, *exc: object) -> None:
        self.renew()

    def current(self) -> Session:
        """Return the open session, or a new one."""
        if self._session is None:
            runner = self._runner
            self._session = self._stack.enter_context(
                runner.dialect.session(runner.engine, runner.settings, self._lock)
            )
            runner.session = self._session
        return self._session

    def renew(self) -> None:
        """Close the session; the next call of `current` opens another one."""
        self._runner.session = None
        self._session = None
        self._stack.close()


def same_steps(one: Plan, other: Plan) -> bool:
    """Whether two plans run the same texts in the same order."""

    def facts(plan: Plan) -> list[tuple[object, ...]]:
        return [
            (s.direction, s.migration.number, s.migration.header and s.migration.header.checksum) for s in plan.steps
        ]

    return facts(one) == facts(other)
