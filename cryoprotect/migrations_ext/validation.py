"""Everything that is wrong with the scripts, and with scripts against history, all at once, each with its cure."""

from __future__ import annotations

from collections.abc import Iterator

from . import discovery, planning
from .errors import DatabaseUnavailableError, IrreversibleMigrationError, ScriptError, ScriptGuardError
from .model import (
    Direction,
    Directory,
    Finding,
    Kind,
    Level,
    Migration,
    MigrationStatus,
    Problem,
    Reaction,
    State,
    Step,
)
from .runner import Runner
from .tracker import History

_LEVEL_OF = {Reaction.ERROR: Level.ERROR, Reaction.WARN: Level.WARNING, Reaction.IGNORE: Level.INFO}


def validate(runner: Runner) -> list[Finding]:
    """Return every finding, scripts first, in order of version. Never writes; runs no script.

    A database that cannot be reached is a finding as well: the scripts are looked at all the same. Raises
    `DirectoryError` where there is no folder to look at.
    """
    directory = discovery.scan(runner.directory)
    history, unreachable = History(), None
    try:
        history = runner.read()
    except DatabaseUnavailableError as error:
        unreachable = error
    directory = runner.with_headers(directory, history.rows)
    findings = [_of_problem(problem, directory) for problem in directory.problems]
    for migration in directory.migrations:
        findings += _of_script(runner, migration)
    if unreachable is not None:
        findings.append(Finding("database", Level.ERROR, unreachable.message, unreachable.hint or ""))
    for status in planning.statuses(directory, history.rows, runner.environment):
        findings += _of_history(runner, status)
    return findings


def _of_problem(problem: Problem, directory: Directory) -> Finding:
    version = next((m.version for m in directory.migrations if m.number == problem.number), None)
    level = Level.ERROR if problem.blocking else Level.WARNING
    file = problem.paths[0] if problem.paths else None
    return Finding("file", level, problem.message, problem.hint, version, file, problem.line)


def _of_script(runner: Runner, migration: Migration) -> Iterator[Finding]:
    """What loading either part of a script finds, without running it."""
    if migration.header is None or migration.header.checksum == "unreadable":
        return  # told as a problem already
    file = migration.apply_path
    for direction in Direction:
        try:
            script = runner.load(Step(direction, migration))
        except IrreversibleMigrationError as error:
            yield Finding("no-rollback", Level.INFO, error.message, error.hint or "", migration.version, file)
            continue
        except (ScriptError, ScriptGuardError) as error:
            yield Finding(
                "script",
                Level.ERROR,
                error.message,
                error.hint or "",
                migration.version,
                error.file or file,
                error.line,
            )
            continue
        if script.kind is Kind.SQL and not runner.dialect.split(script.text):
            part = "apply" if direction is Direction.APPLY else "rollback"
            yield Finding(
                "empty",
                Level.WARNING,
                f"The {part} part of {script.path.name} is empty: it counts as done and does nothing.",
                "Write its statements, or delete the part.",
                migration.version,
                script.path,
                script.first_line,
            )


def _of_history(runner: Runner, status: MigrationStatus) -> Iterator[Finding]:
    """Where a script and its row disagree; how much that matters is the environment's policy."""
    policy, label = runner.policy, f"{status.version}_{status.name}"
    file = status.migration.apply_path if status.migration else None
    if status.state is State.INTERRUPTED:
        yield Finding(
            "interrupted",
            Level.ERROR,
            f"{label} was started without a transaction and never finished.",
            "Look at what it left behind, and complete or undo it.",
            status.version,
            file,
        )
    if status.edited:
        yield Finding(
            "edited",
            _LEVEL_OF[policy.edited],
            f"{label} was edited after being applied; the change has not reached this database.",
            "Put the file back as it was, and write the change as a new migration.",
            status.version,
            file,
        )
    if status.missing and status.state is State.APPLIED:
        yield Finding(
            "missing",
            _LEVEL_OF[policy.missing],
            f"{label} is applied here, but its file is gone.",
            "Bring the file back from version control, or check out the branch that this database was migrated with.",
            status.version,
        )
    if status.out_of_order:
        yield Finding(
            "out-of-order",
            _LEVEL_OF[policy.out_of_order],
            f"{label} is pending and older than a migration that is already applied.",
            "Give the file a number above the newest applied one.",
            status.version,
            file,
        )
    if status.migration and status.applied and status.migration.name != status.applied.name:
        yield Finding(
            "renamed",
            Level.INFO,
            f"{label} was applied under the name {status.applied.name!r}.",
            "Nothing needs to be done: the number is what identifies a migration.",
            status.version,
            file,
        )
