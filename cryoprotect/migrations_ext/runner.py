"""What can be asked of one directory and one database: read, plan, and run under the lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from . import discovery, journal, planning
from .connection import check_text
from .dialects import Dialect, MigrationLock, Session, Write, dialect_for
from .discovery import Script
from .errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    EnvironmentMismatchError,
    MigrationError,
    ScriptError,
)
from .events import Observer
from .execution import Execution
from .journal import Journal
from .model import (
    AppliedMigration,
    Direction,
    Directory,
    Header,
    Migration,
    Plan,
    Problem,
    Source,
    Step,
    StepResult,
)
from .planning import Target
from .redaction import redact
from .settings import Policy, Settings
from .tracker import History, Tracker


class Runner:
    """Runs migrations of one directory on one database for one environment. Prints nothing and asks nothing."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        *,
        directory: Path,
        environment: str,
        source: Source = Source.API,
        actor: str | None = None,
        sender: object = None,
    ) -> None:
        self.sender = sender if sender is not None else self
        """Who the signals come from: the app, where there is one."""
        self.engine = engine
        self.settings = settings
        self.directory = directory
        self.environment = settings.checked_environment(environment)
        self.source = source
        self.actor = actor or settings.resolve_actor()
        self.dialect: Dialect = dialect_for(engine)
        self.tracker = Tracker(self.dialect, settings)
        self.journal = Journal(self.dialect, settings)
        self.stop = threading.Event()
        self.session: Session | None = None
        # What was read before the lock is not read again under it: a file that changed in between is found when it is
        # loaded.
        self._headers: dict[Migration, Migration] = {}

    @property
    def policy(self) -> Policy:
        """What this environment does about irregularities."""
        return self.settings.policy(self.environment)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection of the app's own pool, for reading only.

        Raises `DatabaseUnavailableError` where the database cannot be reached.
        """
        with self._translated(), self.dialect.reading_engine(self.engine).connect() as connection:
            yield connection

    def read(self) -> History:
        """Return the history as it is now, with one query. Never writes, takes no lock."""
        with self.reading() as connection:
            return self.tracker.read(connection)

    def plan(self, direction: Direction, target: Target) -> Plan:
        """Return what would run now. Never writes, takes no lock; raises the errors of `planning`."""
        self._headers.clear()
        return self.plan_from(direction, discovery.scan(self.directory), self.read(), target)

    def inspect(self, plan: Plan) -> None:
        """Read, check and compile every script of a plan; raises `ScriptError` for the first that cannot run."""
        for step in plan.steps:
            self.load(step)

    def run(
        self,
        direction: Direction,
        target: Target,
        *,
        expected: Plan | None = None,
        observers: Iterable[Observer] = (),
    ) -> tuple[StepResult, ...]:
        """Run everything between here and `target`, each script in one transaction with its row.

        Returns what was done, in order; nothing pending returns at once, without lock and without writing. With
        `expected`, the plan that a person agreed to, a plan that became another one since raises `PlanChangedError`.
        Raises `MigrationFailed` for a script that failed, whose report says what had been done before, and the other
        subclasses of `MigrationError` for everything that stops a run before or between scripts.
        """
        self.stop.clear()
        with self._translated():
            self._headers.clear()
            if not self.plan_from(direction, discovery.scan(self.directory), self.read(), target).steps:
                return ()
            run = Execution(self, direction, observers)
            with self._lock(run) as lock:
                return run.execute(lock, target, expected)

    def initialize(self, *, remember: bool, reason: str | None = None) -> bool:
        """Create the tool's tables where they are not yet there, and let the database remember its environment.

        With `remember` the environment is written down if there is none, and changed if there is a `reason`. Returns
        whether anything was created or changed.
        """
        self.stop.clear()
        run = Execution(self, Direction.APPLY, ())
        with self._translated(), self._lock(run) as lock:
            history = self.tracker.read(lock.connection)
            writes = self.missing_tables(lock, history)
            remembered = None if writes and not self.has_journal(lock) else self.remembered_environment(lock)
            if remember and remembered != self.environment:
                if remembered is not None and not reason:
                    raise self.mismatch(remembered)
                writes.append(run.event(lock.place, journal.ENVIRONMENT_SET, detail={"reason": reason}))
            lock.write(writes)
            return bool(writes)

    def record(self, version: str, name: str, status: str) -> bool:
        """Write a row for a migration that was applied by other means; its version must not be recorded yet."""
        run = Execution(self, Direction.APPLY, ())
        with self._translated(), self._lock(run) as lock:
            history = self.tracker.read(lock.connection)
            if any(row.version == version for row in history.rows):
                raise ConfigurationError(f"Version {version} is recorded already.", version=version)
            lock.write(
                [
                    *self.missing_tables(lock, history),
                    self.tracker.record_by_hand(lock.place, version, name, status),
                    run.event(lock.place, journal.RECORDED, version=version, detail={"name": name, "status": status}),
                ]
            )
        return True

    def forget(self, version: str) -> bool:
        """Remove the row of a version without running anything; returns whether there was one."""
        run = Execution(self, Direction.ROLLBACK, ())
        with self._translated(), self._lock(run) as lock:
            history = self.tracker.read(lock.connection)
            found = [row for row in history.rows if row.version == version]
            if found:
                removed = run.event(lock.place, journal.REMOVED, version=version, detail={"name": found[0].name})
                writes = [self.tracker.remove(lock.place, row) for row in found]
                lock.write([*self.missing_tables(lock, history), *writes, removed])
        return bool(found)

    def cancel(self) -> None:
        """Stop the run under way from another thread: its statement is cancelled and its migration rolled back."""
        self.stop.set()
        session = self.session
        if session is not None:
            session.cancel()

    def with_headers(self, directory: Directory, rows: Sequence[AppliedMigration]) -> Directory:
        """Return the directory with every file read afresh, for reports.

        Scripts that lack their number are told too; see `_with_headers` for files that cannot be read.
        """
        self._headers.clear()
        found = self._with_headers(directory, rows)
        if not directory.path.is_dir():  # told as a problem already
            return found
        return replace(found, problems=found.problems + discovery.unnumbered(directory.path))

    def _with_headers(self, directory: Directory, rows: Sequence[AppliedMigration]) -> Directory:
        """Return the directory with every file read, once in a run.

        A file that cannot be read blocks where it is pending; of an applied one it only says that it was edited.
        """
        applied = {row.number for row in rows if row.is_applied}
        migrations: list[Migration] = []
        problems = list(directory.problems)
        for migration in directory.migrations:
            try:
                read = self._headers.get(migration) or discovery.read(migration)
                self._headers[migration] = read
                migrations.append(read)
            except ScriptError as error:
                is_applied = migration.number in applied
                problems.append(_problem(migration, error, blocking=not is_applied))
                unreadable = Header("unreadable", None, reversible=False)
                migrations.append(replace(migration, header=unreadable))
        pending = [m for m in migrations if m.number not in applied]
        problems += discovery.check_environments(pending, self.settings.known_environments)
        return replace(directory, migrations=tuple(migrations), problems=tuple(problems))

    def plan_from(self, direction: Direction, directory: Directory, history: History, target: Target) -> Plan:
        planning.refuse_problems(directory)
        # Names alone decide that there is nothing to do: no file is opened then.
        up_to_date = planning.is_up_to_date(directory, history.rows)
        if direction is Direction.APPLY and target.version is None and up_to_date:
            return Plan(direction, (), self.environment)
        directory = self._with_headers(directory, history.rows)
        plan = planning.plan_apply if direction is Direction.APPLY else planning.plan_rollback
        return plan(directory, history.rows, self.environment, self.policy, target)

    def load(self, step: Step) -> Script:
        """Read, check and compile one script of a plan; raises `ScriptError` for one that cannot run as it is."""
        script = discovery.load(step.migration, step.direction)
        if script.code is None:
            try:
                check_text(self.dialect, script.text, transactional=script.transactional, first_line=script.first_line)
            except MigrationError as error:
                error.version, error.file = script.migration.version, script.path
                raise
        return script

    def _lock(self, run: Execution) -> AbstractContextManager[MigrationLock]:
        return self.dialect.lock(
            self.engine, self.settings, actor=self.actor, on_wait=run.waiting_for_lock, stop=self.stop
        )

    def missing_tables(self, lock: MigrationLock, history: History) -> list[Write]:
        writes = self.tracker.create(lock.place, history)
        if not self.has_journal(lock):
            writes += self.journal.create(lock.place)
        return writes

    def has_journal(self, lock: MigrationLock) -> bool:
        return self.journal.exists(lock.connection, lock.place)

    def remembered_environment(self, lock: MigrationLock) -> str | None:
        return self.journal.environment(lock.connection, lock.place)

    def mismatch(self, remembered: str) -> EnvironmentMismatchError:
        return EnvironmentMismatchError(
            f"This database was set up for {remembered}; this command is for {self.environment}.",
            hint=f"Run it with `--env {remembered}`, or say that the database has become another one: "
            f'`flask db-migrate init --env {self.environment} --reason "…"`.',
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what a database says when it cannot be used at all into one sentence with the cure."""
        try:
            yield
        except MigrationError:
            raise
        except Exception as error:
            complaint = self.dialect.complaint(error)
            if complaint is None:
                raise
            message = redact(complaint.message)
            name = self.dialect.database_name(self.engine)
            if self.dialect.is_readonly(error):
                raise DatabaseUnavailableError(
                    f"The database {name!r} cannot be written to: {message}.",
                    hint="Give this user the right to write and to create tables there "
                    "(PostgreSQL: GRANT CREATE ON SCHEMA …), and check that it is not a replica or a read-only file.",
                ) from error
            if self.dialect.is_unavailable(error):
                raise DatabaseUnavailableError(
                    f"The database {name!r} cannot be reached: {message}.",
                    hint="Check that it is running and that the app's database URL is right.",
                ) from error
            if self.dialect.is_retryable(error):
                raise DatabaseUnavailableError(
                    f"The database {name!r} is busy: {message}.", hint="Run the command again."
                ) from error
            raise


def _problem(migration: Migration, error: ScriptError, *, blocking: bool) -> Problem:
    return Problem(
        paths=(error.file or migration.apply_path,),
        message=error.message,
        hint=error.hint or "Mend the file.",
        line=error.line,
        number=migration.number,
        blocking=blocking,
    )
