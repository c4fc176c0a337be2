"""The Overview: one reading of files and database, condensed to a verdict, the next command and the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from . import discovery, planning
from .errors import DatabaseUnavailableError, DirectoryError, HistoryError, UnknownTargetError
from .model import (
    Directory,
    HistoryEntry,
    LockHolder,
    MigrationStatus,
    Overview,
    Problem,
    RunSummary,
    State,
    Verdict,
)
from .planning import Target
from .runner import Runner
from .tracker import History

_APPLY = "flask db-migrate apply"
_STATUS = "flask db-migrate status"
_VALIDATE = "flask db-migrate validate"
_NEW = "flask db-migrate new NAME"


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the database said beside its history."""

    history: History
    database: str
    """Its name, for an engine whose URL names none."""
    remembered: str | None = None
    last_run: RunSummary | None = None
    last_errors: dict[str, str] | None = None
    holder: LockHolder | None = None


def build_overview(runner: Runner) -> Overview:
    """Return the Overview of `runner`'s database and directory. Never writes, takes no lock.

    Raises `DatabaseUnavailableError` where the database cannot be reached and `ForeignTableError` where the tracking
    table is somebody else's. A missing directory is told as a problem, not raised.
    """
    reading = _read(runner)
    try:
        directory = discovery.scan(runner.directory)
    except DirectoryError as error:
        lost = Problem((runner.directory,), error.message, error.hint or "")
        directory = Directory(runner.directory, (), (lost,))
    directory = runner.with_headers(directory, reading.history.rows)
    rows = planning.statuses(directory, reading.history.rows, runner.environment, last_errors=reading.last_errors)
    warnings, disagreement = _disagreement(runner, directory, rows, reading.history)
    verdict, sentence, command = _verdict(runner, directory, rows, reading, disagreement)
    if reading.remembered not in (None, runner.environment):
        warnings.append(
            f"This database was set up for {reading.remembered}, and this app runs as {runner.environment}: "
            "nothing will be applied or rolled back."
        )
        if command == _APPLY:  # it would be refused
            command = f"{_STATUS} --env {reading.remembered}"
    return Overview(
        verdict=verdict,
        sentence=sentence,
        next_command=command,
        environment=runner.environment,
        remembered_environment=reading.remembered,
        database=shown_url(runner.engine.url, reading.database),
        directory=runner.directory,
        rows=tuple(rows),
        problems=directory.problems,
        warnings=tuple(warnings),
        last_run=reading.last_run,
        lock_holder=reading.holder,
        counts=_counts(rows),
    )


def read_history(runner: Runner, *, limit: int, version: str | None, failed: bool) -> list[HistoryEntry]:
    """Return the newest attempts, newest first. Never writes.

    Raises `UnknownTargetError` for a version that neither a file nor a row has.
    """
    running = _holder(runner) is not None
    with runner.reading() as connection:
        place = runner.dialect.place(connection, runner.settings)
        if not runner.journal.exists(connection, place):
            return []
        if version is not None:
            version = _as_stored(runner, version, [r.version for r in runner.tracker.read(connection).rows])
        return runner.journal.entries(connection, place, limit=limit, version=version, failed=failed, running=running)


def _as_stored(runner: Runner, version: str, rows: Sequence[str]) -> str:
    """A version as it is written in files and rows: `5` finds `005`."""
    known = [*rows, *(m.version for m in discovery.scan(runner.directory).migrations)]
    for candidate in known:
        if candidate == version or (version.isdecimal() and candidate.isdecimal() and int(candidate) == int(version)):
            return candidate
    guess = planning.nearest(version, known)
    raise UnknownTargetError(f"There is no migration {version!r}.", hint=f"The nearest is {guess}." if guess else None)


def unreachable_overview(runner: Runner, error: DatabaseUnavailableError) -> Overview:
    """Return what can be said while the database cannot be reached."""
    return Overview(
        verdict=Verdict.UNREACHABLE,
        sentence=error.message,
        next_command="flask db-migrate status",
        environment=runner.environment,
        remembered_environment=None,
        database=shown_url(runner.engine.url),
        directory=runner.directory,
        warnings=(error.hint,) if error.hint else (),
    )


def shown_url(url: sa.URL, database: str = "") -> str:
    """Return a URL as it may be shown to anyone: no user, no password, no query; `database` where it names none."""
    host = (url.host or "").rpartition("@")[2]  # what follows an unescaped "@" of a password is no host
    if host and url.port:
        host += f":{url.port}"
    return f"{url.get_backend_name()}://{host}/{url.database or database}"


def _read(runner: Runner) -> _Reading:
    reading = _read_once(runner)
    if reading.last_run is not None and reading.last_run.outcome == "interrupted":
        # Or it ended between the look at the journal and the look at the lock: nobody is called dead at first sight.
        return _read_once(runner)
    return reading


def _read_once(runner: Runner) -> _Reading:
    remembered, last_run, last_errors = None, None, None
    with runner.reading() as connection:
        history = runner.tracker.read(connection)
        place = runner.dialect.place(connection, runner.settings)
        if runner.journal.exists(connection, place):
            remembered = runner.journal.environment(connection, place)
            last_run = runner.journal.last_run(connection, place, running=False)
            last_errors = runner.journal.last_errors(connection, place)
        connection.close()  # the next one may be the only one that the host's pool has
        holder = runner.dialect.lock_holder(runner.engine, runner.settings)
    if holder is not None and last_run is not None and last_run.outcome == "interrupted":
        last_run = replace(last_run, outcome="running")
    return _Reading(history, place.database, remembered, last_run, last_errors, holder)


def _holder(runner: Runner) -> LockHolder | None:
    with runner.reading() as connection:
        connection.close()
        return runner.dialect.lock_holder(runner.engine, runner.settings)


def _disagreement(
    runner: Runner, directory: Directory, rows: Sequence[MigrationStatus], history: History
) -> tuple[list[str], HistoryError | None]:
    """What an apply would warn of, or be refused for."""
    warnings: list[str] = []
    try:
        warnings += planning.disagreements(rows, runner.policy)
        plan = planning.plan_apply(directory, history.rows, runner.environment, runner.policy, Target())
    except HistoryError as error:
        return warnings, error
    return list(plan.warnings) or warnings, None


def _verdict(
    runner: Runner,
    directory: Directory,
    rows: Sequence[MigrationStatus],
    reading: _Reading,
    disagreement: HistoryError | None,
) -> tuple[Verdict, str, str | None]:
    """The first state that matters, as a sentence, with the command that leads on."""
    pending = [s for s in rows if s.state is State.PENDING and not s.missing]
    applied = [s for s in rows if s.state is State.APPLIED]
    interrupted = [s for s in rows if s.state is State.INTERRUPTED]
    blocking = [p for p in directory.problems if p.blocking]
    if reading.holder is not None:
        return Verdict.RUNNING, f"A migration run is under way: {reading.holder}.", _STATUS
    if interrupted:
        first = interrupted[0]
        text = f"{first.version}_{first.name} was started without a transaction and never finished."
        return Verdict.INTERRUPTED, text, _VALIDATE
    if blocking:
        return Verdict.DISAGREE, blocking[0].message, _VALIDATE
    if disagreement is not None:
        return Verdict.DISAGREE, disagreement.message, _VALIDATE
    if not rows:
        return Verdict.NO_MIGRATIONS, f"There are no migrations in {runner.directory.name}/ yet.", _NEW
    failed = reading.last_run.failed_version if reading.last_run else None
    if failed is not None and any(s.version == failed and s.last_error for s in rows):
        status = next(s for s in rows if s.version == failed)
        text = f"The last run failed at {status.version}_{status.name}: {status.last_error}"
        return Verdict.FAILED, text, _APPLY
    if pending and not reading.history.exists:
        return Verdict.NOT_SET_UP, f"Nothing was applied here yet; {_count(len(pending))} pending.", _APPLY
    if pending:
        return Verdict.PENDING, f"{_count(len(pending))} pending, {len(applied)} applied.", _APPLY
    return Verdict.UP_TO_DATE, f"The database is up to date: {_count(len(applied))} applied.", None


def _count(number: int) -> str:
    return f"{number} migration" if number == 1 else f"{number} migrations"


def _counts(rows: Sequence[MigrationStatus]) -> dict[str, int]:
    counts = {state.value: sum(1 for s in rows if s.state is state) for state in State}
    counts["pending"] -= sum(1 for s in rows if s.state is State.PENDING and s.missing)  # a stale row without a file
    for flag in ("edited", "missing", "out_of_order"):
        counts[flag] = sum(1 for s in rows if getattr(s, flag))
    return counts
