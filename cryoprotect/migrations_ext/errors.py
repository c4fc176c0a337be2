"""Every way to fail: a sentence, the migration it is about, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .model import Failure, Migration, Problem, StepResult


class MigrationError(Exception):
    """Base of everything this package raises on purpose.

    `message` is one sentence for a person, `hint` says what to do next, `version` names the migration concerned.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        version: str | None = None,
        hint: str | None = None,
        file: Path | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.version = version
        self.hint = hint
        self.file = file
        self.line = line
        self.completed: tuple[StepResult, ...] = ()
        """What the run had done when this was raised."""


class ConfigurationError(MigrationError):
    """Raised when a setting, an option or the app's set-up cannot be used as it is."""

    exit_code = 2


class UnknownTargetError(ConfigurationError):
    """Raised when `--target` names a version that is neither in the directory nor in the history."""


class DirectoryError(ConfigurationError):
    """Raised when the folder of scripts is not there or cannot be read."""


class DatabaseUnavailableError(MigrationError):
    """Raised when the database cannot be reached, or not be written to."""

    exit_code = 2


class ForeignTableError(ConfigurationError):
    """Raised when a table with the tracking table's name belongs to somebody else."""


class EnvironmentMismatchError(MigrationError):
    """Raised when a command for one environment would change a database that was set up for another."""

    exit_code = 2


class ConfirmationRequiredError(MigrationError):
    """Raised when a rollback needs somebody's word and nobody can be asked."""

    exit_code = 2


class DeclinedError(MigrationError):
    """Raised when the person who was asked said no."""


class LockBusyError(MigrationError):
    """Raised when another run holds the migration lock for longer than `DB_MIGRATE_LOCK_WAIT`."""

    exit_code = 4


class HistoryError(MigrationError):
    """Raised when files and history disagree in a way that this environment's policy refuses."""

    exit_code = 5


class EditedMigrationError(HistoryError):
    """Raised when the file of an applied migration was changed afterwards."""


class MissingMigrationError(HistoryError):
    """Raised when the file of an applied migration is gone."""


class OutOfOrderError(HistoryError):
    """Raised when a pending migration is older than one that was applied."""


class InterruptedMigrationError(HistoryError):
    """Raised when a non-transactional migration was started and never finished."""


class InvalidDirectoryError(HistoryError):
    """Raised when files clash or cannot be read as migrations; carries every problem found."""

    def __init__(self, message: str, *, problems: tuple[Problem, ...], hint: str | None = None) -> None:
        first = problems[0] if problems else None
        super().__init__(
            message,
            hint=hint,
            file=first.paths[0] if first and first.paths else None,
            line=first.line if first else None,
        )
        self.problems = problems


class PendingMigrationsError(MigrationError):
    """Raised when the database lacks migrations that this code needs."""

    exit_code = 3

    def __init__(self, migrations: Sequence[Migration]) -> None:
        count = "1 migration is" if len(migrations) == 1 else f"{len(migrations)} migrations are"
        shown = [migration.label for migration in migrations[:3]]
        if len(migrations) > 3:
            shown.append(f"and {len(migrations) - 3} more")
        super().__init__(
            f"{count} pending: {', '.join(shown)}.",
            version=migrations[0].version,
            hint="Run `flask db-migrate apply`.",
        )


class ScriptError(MigrationError):
    """Raised when a script cannot be run as it is written; found before anything runs."""


class IrreversibleMigrationError(ScriptError):
    """Raised when a rollback would have to pass a migration that has no rollback part."""


class ScriptGuardError(MigrationError):
    """Raised inside a script that commits, rolls back or closes what is not its own."""


class ScriptCallError(MigrationError):
    """Raised inside a script for a call on `conn` that cannot be answered as it is written."""


class MigrationFailed(MigrationError):  # noqa: N818 - the contract's name
    """Raised when a script failed while it ran. `failure` is the whole report."""

    def __init__(self, failure: Failure) -> None:
        where = f"{failure.file.name}" if failure.file else f"{failure.version}_{failure.name}"
        if failure.line is not None:
            where += f", line {failure.line}"
        if failure.statement_number is not None:
            where += f", statement {failure.statement_number}"
            if failure.statement_count is not None:
                where += f" of {failure.statement_count}"
        verb = "did not apply" if failure.direction == "apply" else "did not roll back"
        super().__init__(
            f"Migration {failure.version}_{failure.name} {verb}: {failure.message} ({where})",
            version=failure.version,
            hint=failure.next_steps[0] if failure.next_steps else None,
            file=failure.file,
            line=failure.line,
        )
        self.failure = failure
        self.completed = failure.completed


class PlanChangedError(MigrationError):
    """Raised when files or history changed since the plan was shown to the person who agreed to it."""


class RunCancelledError(MigrationError):
    """Raised when a run was stopped by a signal; what was under way has been rolled back."""

    exit_code = 130
