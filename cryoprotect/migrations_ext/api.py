"""What every door calls: the Manager of one database and directory, and the original design's functions over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.exc import ArgumentError

from . import discovery, planning
from .dialects import dialect_for
from .errors import ConfigurationError, ConfirmationRequiredError, DatabaseUnavailableError
from .events import Observer
from .model import (
    LONGEST_VERSION,
    Direction,
    Finding,
    HistoryEntry,
    Kind,
    Migration,
    Outcome,
    Overview,
    Plan,
    Protection,
    Source,
    StepResult,
    version_number,
)
from .overview import build_overview, read_history, unreachable_overview
from .planning import Target
from .report import results_document, status_document
from .runner import Runner
from .settings import Settings
from .validation import validate

if TYPE_CHECKING:
    from .extension import AppMigrations


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The question that has to be answered before a rollback runs."""

    protection: Protection
    question: str
    expected: str | None = None
    """The text to type, for `Protection.TYPE_NAME`."""


@dataclass(frozen=True, slots=True)
class ScriptTexts:
    """A migration's texts as a person reads them."""

    apply: str
    rollback: str | None
    """None where the rollback part is in the same text (Python), or missing."""
    apply_line: int = 1
    """Line of the file where `apply` starts."""
    rollback_line: int = 1


class Manager:
    """Everything the doors can ask for, bound to one database, one directory and one environment."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    @classmethod
    def for_app(
        cls,
        app: Flask | None = None,
        *,
        directory: str | Path | None = None,
        environment: str | None = None,
        source: Source = Source.API,
        actor: str | None = None,
    ) -> Manager:
        """Return the manager of `app`, or of the current app.

        Raises `ConfigurationError` where there is no app, or where it never called `init_app`.
        """
        found = app or _current_app()
        state = _state_of(found)
        return cls(
            Runner(
                state.engine,
                state.settings,
                directory=Path(directory).absolute() if directory is not None else state.directory,
                environment=state.environment(environment),
                sender=found,
                source=source,
                actor=actor,
            )
        )

    @property
    def settings(self) -> Settings:
        """The host's settings."""
        return self.runner.settings

    @property
    def environment(self) -> str:
        """The environment in force."""
        return self.runner.environment

    @property
    def directory(self) -> Path:
        """The scripts' folder."""
        return self.runner.directory

    @property
    def engine(self) -> sa.Engine:
        """The engine over which everything runs."""
        return self.runner.engine

    @property
    def source(self) -> Source:
        """The door through which this manager was asked for."""
        return self.runner.source

    @property
    def actor(self) -> str:
        """Who is written into the history."""
        return self.runner.actor

    @property
    def database_name(self) -> str:
        """The name that a person knows the database by, and types to confirm."""
        named = self.runner.dialect.database_name(self.engine)
        if named:
            return named
        with self.runner.reading() as connection:  # an engine with a creator: its URL names no database
            return self.runner.dialect.place(connection, self.settings).database

    def overview(self, *, tolerant: bool = False) -> Overview:
        """Return the Overview; never writes. With `tolerant` an unreachable database is a verdict, not an error."""
        try:
            return build_overview(self.runner)
        except DatabaseUnavailableError as error:
            if not tolerant:
                raise
            return unreachable_overview(self.runner, error)

    def plan(self, direction: Direction, *, target: str | None = None, steps: int | None = None) -> Plan:
        """Return what would run now; never writes, and raises what stops it."""
        return self.runner.plan(direction, Target(target, steps))

    def confirmation(self, plan: Plan) -> Confirmation | None:
        """Return the question to ask before `plan` may run; None where none is needed."""
        protection = self.runner.policy.protect
        if plan.direction is not Direction.ROLLBACK or len(plan.steps) < 2 or protection is Protection.NONE:
            return None
        what = f"This rolls back {len(plan.steps)} migrations of {self.database_name} ({self.environment})."
        if protection is Protection.ASK:
            return Confirmation(protection, f"{what} Go on?")
        return Confirmation(protection, f"{what} Type the database's name to go on", self.database_name)

    def apply(
        self,
        *,
        target: str | None = None,
        steps: int | None = None,
        dry_run: bool = False,
        expected: Plan | None = None,
        observers: Iterable[Observer] = (),
    ) -> list[StepResult]:
        """Apply what is pending, up to `target` or for `steps` migrations; raises `MigrationFailed` and others."""
        return self._run(Direction.APPLY, Target(target, steps), dry_run, expected, observers)

    def rollback(
        self,
        *,
        target: str | None = None,
        steps: int | None = None,
        dry_run: bool = False,
        expected: Plan | None = None,
        observers: Iterable[Observer] = (),
    ) -> list[StepResult]:
        """Roll back what is above `target`, or `steps` migrations, or everything. The door has asked before."""
        return self._run(Direction.ROLLBACK, Target(target, steps), dry_run, expected, observers)

    def check(self) -> Plan:
        """Return what an apply would run, after every check of this environment's policy; never writes.

        Raises `HistoryError` where files and history disagree in a way that the policy refuses, also when nothing is
        pending.
        """
        directory = discovery.scan(self.directory)
        rows = self.runner.read().rows
        directory = self.runner.with_headers(directory, rows)
        planning.refuse_problems(directory)
        found = planning.statuses(directory, rows, self.environment)
        planning.disagreements(found, self.runner.policy)
        return planning.plan_apply(directory, rows, self.environment, self.runner.policy, Target())

    def initialize(self, *, reason: str | None = None) -> bool:
        """Create the tool's tables and write the environment down; returns whether anything changed."""
        return self.runner.initialize(remember=True, reason=reason)

    def make_directory(self) -> bool:
        """Make the folder of scripts where there is none; returns whether it was made."""
        return discovery.make_folder(self.directory)

    def new_script(self, name: str, *, kind: Kind = Kind.PYTHON, pair: bool = False) -> tuple[Path, ...]:
        """Write a new script with the next number and return its file, or the two files of a pair."""
        written = discovery.write_new(self.directory, name, kind=kind, pair=pair)
        return written if isinstance(written, tuple) else (written,)

    def validate(self) -> list[Finding]:
        """Return everything that is wrong with the scripts, and with scripts against history; never writes."""
        return validate(self.runner)

    def history(self, *, limit: int = 20, version: str | None = None, failed: bool = False) -> list[HistoryEntry]:
        """Return the newest attempts, newest first; `version` (as a number) and `failed` keep only such."""
        return read_history(self.runner, limit=limit, version=version, failed=failed)

    def texts(self, migration: Migration) -> ScriptTexts:
        """Return a migration's texts for reading; raises `ScriptError` where a file cannot be read."""
        apply = discovery.read_part(migration, Direction.APPLY)
        assert apply is not None, "every migration has an apply part"
        if migration.kind is Kind.PYTHON:
            return ScriptTexts(apply.text, None)
        rollback = discovery.read_part(migration, Direction.ROLLBACK)
        if rollback is None:
            return ScriptTexts(apply.text, None, apply.first_line)
        return ScriptTexts(apply.text, rollback.text, apply.first_line, rollback.first_line)

    def cancel(self) -> None:
        """Stop the run under way, from another thread."""
        self.runner.cancel()

    def let_go(self) -> None:
        """Close what the engine's pool holds open; an in-memory database, which that would destroy, is left alone."""
        self.runner.dialect.let_go(self.engine)

    def _run(
        self,
        direction: Direction,
        target: Target,
        dry_run: bool,
        expected: Plan | None,
        observers: Iterable[Observer],
    ) -> list[StepResult]:
        if not dry_run:
            return list(self.runner.run(direction, target, expected=expected, observers=observers))
        plan = self.runner.plan(direction, target)
        self.runner.inspect(plan)
        would = Outcome.WOULD_APPLY if direction is Direction.APPLY else Outcome.WOULD_ROLLBACK
        return [
            StepResult(s.migration.version, s.migration.name, would, script=s.migration.apply_path) for s in plan.steps
        ]


def apply_migrations(
    conn: Any = None,
    config: Mapping[str, Any] | None = None,
    migrations_dir: str | Path | None = None,
    target_version: str | None = None,
    environment: str | None = None,
    dry_run: bool = False,
) -> list[dict[str, Any]]:
    """Apply pending migrations up to `target_version`, or all.

    `conn` is an Engine, a Connection that is not inside a transaction, a URL, or None for the current app; `config`
    is a mapping of `DB_MIGRATE_*` keys. Without an app the environment is development, as in the original design.
    Returns what `flask db-migrate apply --format json` prints. Raises `MigrationFailed` for a script that failed, and
    other subclasses of `MigrationError`.
    """
    with _opened(conn, config, migrations_dir, environment) as manager:
        return results_document(manager.apply(target=target_version, dry_run=dry_run))


def rollback_migrations(
    conn: Any = None,
    config: Mapping[str, Any] | None = None,
    migrations_dir: str | Path | None = None,
    target_version: str | None = None,
    environment: str | None = None,
    dry_run: bool = False,
) -> list[dict[str, Any]]:
    """Roll back what is above `target_version`, or everything; the arguments are those of `apply_migrations`.

    In an environment that protects rollbacks, rolling back everything needs `environment` passed, so that it cannot
    happen by a forgotten argument: otherwise `ConfirmationRequiredError` is raised.
    """
    with _opened(conn, config, migrations_dir, environment) as manager:
        is_forgotten = target_version is None and environment is None and not dry_run
        if is_forgotten and manager.runner.policy.protect is not Protection.NONE:
            raise ConfirmationRequiredError(
                f"Rolling back everything in {manager.environment} needs to be said twice.",
                hint=f"Pass environment={manager.environment!r}, or a target_version.",
            )
        return results_document(manager.rollback(target=target_version, dry_run=dry_run))


def get_migration_status(
    conn: Any = None, config: Mapping[str, Any] | None = None, migrations_dir: str | Path | None = None
) -> dict[str, dict[str, Any]]:
    """Return version -> facts, as `flask db-migrate status --format json` prints them. Never writes."""
    with _opened(conn, config, migrations_dir) as manager:
        return status_document(manager.overview())


def initialize_migration_tracking(conn: Any = None, config: Mapping[str, Any] | None = None) -> bool:
    """Create the tracking table and the journal where they are not there yet; returns True, raises when it cannot."""
    with _opened(conn, config) as manager:
        manager.runner.initialize(remember=False)
    return True


def get_applied_migrations(conn: Any = None) -> list[dict[str, Any]]:
    """Return the applied migrations as dictionaries, in order of version. Never writes."""
    with _opened(conn) as manager:
        rows = manager.runner.read().rows
    applied = sorted((r for r in rows if r.is_applied), key=lambda r: (r.number is None, r.number or 0))
    return [
        {
            "id": r.id,
            "version": r.version,
            "name": r.name,
            "applied_at": r.applied_at.isoformat() if r.applied_at else None,
            "status": r.status,
        }
        for r in applied
    ]


def record_migration(conn: Any, version: str, name: str, status: str = "applied") -> bool:
    """Write a row for a migration that was applied by other means, under the lock; returns True.

    Raises `ConfigurationError` where the version is recorded already, and for what no row can hold.
    """
    if version_number(version) is None:
        raise ConfigurationError(
            f"{version!r} is no version.",
            hint=f"A version is the number before a script's name, as text: '007', at most {LONGEST_VERSION} digits.",
        )
    for what, text, longest in (("name", name, 255), ("status", status, 50)):
        if not text.isprintable() or not 0 < len(text) <= longest:
            raise ConfigurationError(
                f"{text[:60]!r} cannot be recorded as {what}.", hint=f"Give 1 to {longest} printable characters."
            )
    with _opened(conn) as manager:
        return manager.runner.record(version, name, status)


def remove_migration_record(conn: Any, version: str) -> bool:
    """Remove the row of a version, under the lock, without running anything; returns whether there was one."""
    with _opened(conn) as manager:
        return manager.runner.forget(version)


@contextmanager
def _opened(
    conn: Any,
    config: Mapping[str, Any] | None = None,
    migrations_dir: str | Path | None = None,
    environment: str | None = None,
) -> Iterator[Manager]:
    """Yield the manager for whatever the caller gave as `conn`; what was opened for it is closed afterwards.

    With an app around, its settings and its environment apply, `config` over them; without one the environment is
    development unless something names another.
    """
    state: AppMigrations | None = current_app.extensions.get("db_migrate") if current_app else None
    if conn is None:
        state = _state_of(_current_app())
    if state is not None:
        state = state.with_config(config) if config else state
        settings, label, folder = state.settings, state.environment(environment), state.directory
    else:
        settings = Settings.from_mapping(config or {})
        label = settings.resolve_environment(environment, debug=True)
        folder = settings.resolve_directory(Path.cwd())
    if migrations_dir is not None:
        folder = Path(migrations_dir).absolute()
    engine = state.engine if conn is None and state is not None else _engine(conn)
    try:
        yield Manager(Runner(engine, settings, directory=folder, environment=label))
    finally:
        if isinstance(conn, str | sa.URL):
            engine.dispose()


def _current_app() -> Flask:
    if not current_app:
        raise ConfigurationError(
            "There is no current app, and no database was given.",
            hint="Pass an engine or a URL as `conn`, or call this inside `with app.app_context():`.",
        )
    found: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return found


def _state_of(app: Flask) -> AppMigrations:
    state: AppMigrations | None = app.extensions.get("db_migrate")
    if state is None:
        raise ConfigurationError(
            f"The app {app.import_name!r} has no migrations: Migrations was never initialised for it.",
            hint="Add two lines beside its SQLAlchemy object: `from cryoprotect.migrations_ext import Migrations` "
            "and, after db.init_app(app), `Migrations(db).init_app(app)`.",
        )
    return state


def _engine(conn: Any) -> sa.Engine:
    if isinstance(conn, sa.Engine):
        return conn
    if isinstance(conn, sa.Connection):
        if conn.in_transaction():
            raise ConfigurationError(
                "The connection is inside a transaction; migrations open their own.",
                hint="Commit or roll back first, or pass the engine.",
            )
        return conn.engine
    if isinstance(conn, str | sa.URL):
        return engine_from_url(conn)
    raise ConfigurationError(
        f"conn is a {type(conn).__name__}; it can be an Engine, a Connection, a URL, or None for the current app.",
        hint="Of a Flask-SQLAlchemy object or a session, pass its engine.",
    )


def engine_from_url(url: str | sa.URL) -> sa.Engine:
    """Return an engine without a pool; `postgres://` and `postgresql://` mean psycopg2 on every SQLAlchemy.

    Raises `ConfigurationError` for a text that is no URL, without repeating it: it may hold a password.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg2")
        # SQLAlchemy's own choice for a database in memory keeps the one connection that it lives in.
        dialect: Any = parsed.get_dialect()
        pool = dialect.get_pool_class(parsed)
        engine = sa.create_engine(parsed, poolclass=sa.NullPool if pool is sa.QueuePool else pool)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The database URL asks for the driver {error.name!r}, which is not installed.", hint=_URL_FORM
        ) from None
    except (ArgumentError, ValueError):
        raise ConfigurationError("The database URL cannot be read.", hint=_URL_FORM) from None
    dialect_for(engine)
    return engine


_URL_FORM = (
    "Write it as postgresql+psycopg2://host:5432/database or sqlite:///path/to/file; "
    "special characters in a password are percent-encoded."
)

__all__ = [
    "Confirmation",
    "Manager",
    "ScriptTexts",
    "apply_migrations",
    "engine_from_url",
    "get_applied_migrations",
    "get_migration_status",
    "initialize_migration_tracking",
    "record_migration",
    "remove_migration_record",
    "rollback_migrations",
]
