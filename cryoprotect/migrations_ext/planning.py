"""From files, rows and a target to a plan or an error. Pure: no file and no database is touched here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import (
    ConfigurationError,
    EditedMigrationError,
    InterruptedMigrationError,
    InvalidDirectoryError,
    IrreversibleMigrationError,
    MissingMigrationError,
    OutOfOrderError,
    UnknownTargetError,
)
from .model import (
    LONGEST_VERSION,
    AppliedMigration,
    Direction,
    Directory,
    Migration,
    MigrationStatus,
    Plan,
    Reaction,
    State,
    Step,
    version_number,
)
from .settings import Policy


@dataclass(frozen=True, slots=True)
class Target:
    """How far to go: to a version, a number of steps, or (neither) all the way."""

    version: str | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.steps is not None:
            raise ConfigurationError("A target and a number of steps exclude each other.", hint="Give one of them.")
        if self.steps is not None and self.steps < 1:
            raise ConfigurationError(f"{self.steps} steps is not a number of steps.", hint="Give 1 or more.")


def is_up_to_date(directory: Directory, rows: Sequence[AppliedMigration]) -> bool:
    """Whether names alone say that nothing is pending: every file's number has an applied row, and none is running."""
    applied = {row.number for row in rows if row.is_applied}
    return all(m.number in applied for m in directory.migrations) and not any(row.is_running for row in rows)


def statuses(
    directory: Directory,
    rows: Sequence[AppliedMigration],
    environment: str,
    *,
    last_errors: dict[str, str] | None = None,
) -> list[MigrationStatus]:
    """Return one status per file or row, in order of number; rows that are no number come first.

    `directory.migrations` whose header was read tell whether they are edited, skipped and reversible.
    """
    files = {m.number: m for m in directory.migrations}
    by_number = _rows_by_number(rows, files)
    newest = max((n for n, row in by_number.items() if row.is_applied), default=-1)
    errors = last_errors or {}
    found = [MigrationStatus(row.version, row.name, _row_state(row), None, row) for row in rows if row.number is None]
    for number in sorted(files.keys() | by_number.keys()):
        migration, row = files.get(number), by_number.get(number)
        state = _state(migration, row, environment)
        shown = migration or row
        assert shown is not None
        found.append(
            MigrationStatus(
                version=shown.version,
                name=shown.name,
                state=state,
                migration=migration,
                applied=row,
                edited=_is_edited(migration, row),
                out_of_order=state is State.PENDING and migration is not None and number < newest,
                last_error=None if state is State.APPLIED else errors.get(shown.version),
            )
        )
    return found


def plan_apply(
    directory: Directory,
    rows: Sequence[AppliedMigration],
    environment: str,
    policy: Policy,
    target: Target,
) -> Plan:
    """Return what an apply runs, in order of number. Headers of `directory.migrations` must have been read.

    Raises `InvalidDirectoryError`, `InterruptedMigrationError`, `EditedMigrationError`, `MissingMigrationError`,
    `OutOfOrderError` as the policy says, and `UnknownTargetError`.
    """
    refuse_problems(directory)
    found = statuses(directory, rows, environment)
    limit = _limit(target, directory, rows)
    _refuse_interrupted(found)
    pending = [
        s for s in found if s.state is State.PENDING and not s.missing and (limit is None or _number(s) <= limit)
    ]
    skipped = tuple(s.migration for s in found if s.state is State.SKIPPED and s.migration)
    chosen = pending[: target.steps]
    if not chosen:
        return Plan(Direction.APPLY, (), environment, skipped=skipped)
    warnings = disagreements(found, policy) + _judge_order(chosen, policy)
    steps = tuple(Step(Direction.APPLY, s.migration, s.applied) for s in chosen if s.migration)
    return Plan(Direction.APPLY, steps, environment, tuple(warnings), skipped)


def plan_rollback(
    directory: Directory,
    rows: Sequence[AppliedMigration],
    environment: str,
    policy: Policy,
    target: Target,
) -> Plan:
    """Return what a rollback runs, from the highest number down. Headers must have been read.

    Raises as `plan_apply` does, and `IrreversibleMigrationError` where a migration has no rollback part: nothing
    runs then, so that the caller decides with open eyes how far to go.
    """
    refuse_problems(directory)
    found = statuses(directory, rows, environment)
    limit = _limit(target, directory, rows)
    _refuse_interrupted(found)
    applied = [
        s
        for s in reversed(found)
        if s.state is State.APPLIED and (limit is None or s.applied is None or _number(s) > limit)
    ]
    chosen = applied[: target.steps]
    if not chosen:
        return Plan(Direction.ROLLBACK, (), environment)
    for status in chosen:
        _refuse_unrollable(status, chosen)
    warnings = disagreements(found, policy)
    steps = tuple(Step(Direction.ROLLBACK, s.migration, s.applied) for s in chosen if s.migration)
    return Plan(Direction.ROLLBACK, steps, environment, tuple(warnings))


def refuse_problems(directory: Directory) -> None:
    """Raise `InvalidDirectoryError` if files clash or cannot be read as migrations."""
    blocking = tuple(p for p in directory.problems if p.blocking)
    if not blocking:
        return
    first = blocking[0]
    more = f" ({len(blocking) - 1} more of the kind.)" if len(blocking) > 1 else ""
    raise InvalidDirectoryError(first.message + more, problems=blocking, hint=first.hint)


def disagreements(found: Iterable[MigrationStatus], policy: Policy) -> list[str]:
    """Return warnings about edited and missing files, or raise the error that the policy asks for."""
    edited = [s for s in found if s.edited]
    missing = [s for s in found if s.missing and s.state is State.APPLIED]
    warnings: list[str] = []
    if edited:
        message = (
            f"{_names(edited)} {'was' if len(edited) == 1 else 'were'} edited after being applied; "
            "the change has not reached this database."
        )
        if policy.edited is Reaction.ERROR:
            raise EditedMigrationError(
                message,
                version=edited[0].version,
                file=edited[0].migration.apply_path if edited[0].migration else None,
                hint="Put the file back as it was, and write the change as a new migration (`flask db-migrate new`).",
            )
        if policy.edited is Reaction.WARN:
            warnings.append(message)
    if missing:
        message = f"{_names(missing)} {'is' if len(missing) == 1 else 'are'} applied here, but the file is gone."
        if policy.missing is Reaction.ERROR:
            raise MissingMigrationError(
                message,
                version=missing[0].version,
                hint="Bring the file back from version control, "
                "or check out the branch that this database was migrated with.",
            )
        if policy.missing is Reaction.WARN:
            warnings.append(message)
    return warnings


def nearest(version: str, versions: Iterable[str]) -> str | None:
    """Return the known version that is most like `version`: by number where both are numbers, else by letters."""
    known = sorted(set(versions), key=lambda v: (len(v), v))
    if not known:
        return None
    wanted = version_number(version)
    numbers = {v: n for v in known if (n := version_number(v)) is not None}
    if wanted is not None and numbers:
        return min(numbers, key=lambda v: abs(numbers[v] - wanted))
    guess = difflib.get_close_matches(version, known, n=1, cutoff=0.3)
    return guess[0] if guess else known[-1]


def _rows_by_number(rows: Iterable[AppliedMigration], files: Mapping[int, Migration]) -> dict[int, AppliedMigration]:
    """One row per number. Of `1` and `001`, which other tools may both have written, the one that says most counts."""

    def weight(row: AppliedMigration) -> tuple[bool, bool, bool]:
        migration = files.get(row.number) if row.number is not None else None
        return row.is_running, row.is_applied, migration is not None and migration.version == row.version

    found: dict[int, AppliedMigration] = {}
    for row in rows:
        if row.number is not None and (row.number not in found or weight(row) >= weight(found[row.number])):
            found[row.number] = row
    return found


def _row_state(row: AppliedMigration) -> State:
    if row.is_applied:
        return State.APPLIED
    return State.INTERRUPTED if row.is_running else State.PENDING


def _state(migration: Migration | None, row: AppliedMigration | None, environment: str) -> State:
    if row is not None:
        state = _row_state(row)
        if state is not State.PENDING or migration is None:
            return state
    header = migration.header if migration else None
    if header and header.environments is not None and environment not in header.environments:
        return State.SKIPPED
    return State.PENDING


def _is_edited(migration: Migration | None, row: AppliedMigration | None) -> bool:
    """Only what was recorded can be compared: a taken-over table has no checksums."""
    if migration is None or migration.header is None or row is None or not row.is_applied or not row.checksum:
        return False
    return row.checksum != migration.header.checksum


def _number(status: MigrationStatus) -> int:
    if status.migration is not None:
        return status.migration.number
    if status.applied is not None and status.applied.number is not None:
        return status.applied.number
    return -1


def _limit(target: Target, directory: Directory, rows: Sequence[AppliedMigration]) -> int | None:
    """The target as a number; 0 is before everything, unless a migration has it. `5` finds `005`."""
    if target.version is None:
        return None
    known = {m.number: m.version for m in directory.migrations}
    known |= {row.number: row.version for row in rows if row.number is not None}
    text = target.version.strip()
    number = version_number(text)
    if number is not None and (number == 0 or number in known):
        return number
    guess = nearest(text, known.values())
    shown = text[:LONGEST_VERSION]
    raise UnknownTargetError(
        f"There is no migration {shown!r}, neither in {directory.path.name}/ nor in the history.",
        hint=f"The nearest is {guess}; `flask db-migrate status` lists all." if guess
        else "There are no migrations yet; `flask db-migrate new NAME` writes the first.",
    )  # fmt: skip


def _refuse_interrupted(found: Iterable[MigrationStatus]) -> None:
    interrupted = [s for s in found if s.state is State.INTERRUPTED]
    if interrupted:
        status = interrupted[0]
        raise InterruptedMigrationError(
            f"{status.version}_{status.name} was started without a transaction and never finished; "
            "some of its statements may be in the database.",
            version=status.version,
            file=status.migration.apply_path if status.migration else None,
            hint=f"Look at what it left behind, undo or complete it by hand, then set its row's status in the tracking "
            f"table to 'applied', or remove the row of version {status.version} to run it again.",
        )


def _judge_order(chosen: Sequence[MigrationStatus], policy: Policy) -> list[str]:
    late = [s for s in chosen if s.out_of_order]
    if not late or policy.out_of_order is Reaction.IGNORE:
        return []
    message = f"{_names(late)} {'is' if len(late) == 1 else 'are'} older than a migration that is already applied."
    if policy.out_of_order is Reaction.ERROR:
        raise OutOfOrderError(
            message,
            version=late[0].version,
            file=late[0].migration.apply_path if late[0].migration else None,
            hint="Give the file a number above the newest applied one, or set DB_MIGRATE_OUT_OF_ORDER to 'warn'.",
        )
    return [message]


def _refuse_unrollable(status: MigrationStatus, chosen: Sequence[MigrationStatus]) -> None:
    if status.migration is None:
        raise MissingMigrationError(
            f"{status.version}_{status.name} cannot be rolled back: its file is gone.",
            version=status.version,
            hint=f"Bring the file back from version control. {_way_out(status, chosen)}",
        )
    if status.reversible is False:
        raise IrreversibleMigrationError(
            f"{status.migration.label} has no rollback part, so the rollback would have to stop there.",
            version=status.version,
            file=status.migration.apply_path,
            hint=f"{_way_out(status, chosen)} Or write its rollback part.",
        )


def _way_out(status: MigrationStatus, chosen: Sequence[MigrationStatus]) -> str:
    if any(_number(s) > _number(status) for s in chosen):
        target = status.version if _number(status) >= 0 else "0"  # a row without a number stands before everything
        return f"To roll back only what is above it: `flask db-migrate rollback --target {target}`."
    return "It is the newest, so nothing can be rolled back before it."


def _names(found: Sequence[MigrationStatus]) -> str:
    shown = [f"{s.version}_{s.name}" for s in found[:3]]
    if len(found) > 3:
        shown.append(f"{len(found) - 3} more")
    return ", ".join(shown[:-1]) + f" and {shown[-1]}" if len(shown) > 1 else shown[0]
