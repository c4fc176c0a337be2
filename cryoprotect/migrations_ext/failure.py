"""The Failure report: where a script failed, what state the database is in, and what to do now."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from .connection import Progress
from .dialects import Dialect
from .discovery import Script
from .errors import MigrationError
from .model import Direction, Failure, Kind, Outcome, StepResult


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the engine knows about the failed step beside the error."""

    script: Script
    error: BaseException
    progress: Progress | None
    completed: Sequence[StepResult]
    transactional: bool
    committed: bool | None = False
    """False: rolled back. True: the step is in the database all the same. None: that could not be found out."""


def build_failure(dialect: Dialect, facts: Circumstances) -> Failure:
    """Return the report of one failed step. Never raises for an odd error: it is all the operator gets."""
    script, error, progress = facts.script, facts.error, facts.progress
    complaint = dialect.complaint(error)
    statement = progress.text if progress is not None else None
    line, column, source_line = _place(facts, complaint.position if complaint else None)
    return Failure(
        version=script.migration.version,
        name=script.migration.name,
        direction=script.direction,
        message=complaint.message if complaint else _describe(error),
        file=script.path,
        line=line,
        column=column,
        source_line=source_line,
        statement=statement,
        statement_number=progress.number if progress is not None and statement is not None else None,
        statement_count=progress.count if progress is not None and statement is not None else None,
        detail=complaint.detail if complaint else None,
        server_hint=complaint.hint if complaint else getattr(error, "hint", None),
        database_state=_database_state(facts),
        next_steps=_next_steps(facts),
        completed=tuple(facts.completed),
    )


def _describe(error: BaseException) -> str:
    if isinstance(error, MigrationError):
        return error.message
    if isinstance(error, SystemExit):
        return f"The script ended the process: SystemExit({error.code!r})."
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _place(facts: Circumstances, position: int | None) -> tuple[int | None, int | None, str | None]:
    """Line in the file; column and text of the statement's line where the server gave a position."""
    progress = facts.progress
    column: int | None = None
    source_line: str | None = None
    lines_before = 0
    # Without an offset the server's position points into a text that the script did not write (bound values).
    if progress is not None and progress.text is not None and progress.offset is not None and position is not None:
        before = progress.text[: position - 1]
        lines_before = before.count("\n")
        column = position - 1 - (before.rfind("\n") + 1) + 1
        source_line = progress.text.split("\n")[lines_before].rstrip("\r")
    if facts.script.kind is Kind.PYTHON:
        return _line_in_script(facts), column, source_line
    if progress is None or progress.line is None:
        return facts.script.first_line, column, source_line
    if source_line is None and progress.text is not None:
        source_line = progress.text.partition("\n")[0].rstrip("\r")
    return progress.line + lines_before, column, source_line


def _line_in_script(facts: Circumstances) -> int | None:
    """The innermost line of the script itself on the error's stack."""
    if isinstance(facts.error, SyntaxError) and facts.error.filename == str(facts.script.path):
        return facts.error.lineno
    if isinstance(facts.error, MigrationError) and facts.error.line is not None:
        return facts.error.line
    frames = traceback.extract_tb(facts.error.__traceback__)
    own = [f.lineno for f in frames if f.filename == str(facts.script.path)]
    return own[-1] if own else None


def _database_state(facts: Circumstances) -> str:
    label = facts.script.migration.label
    verb = "applied" if facts.script.direction is Direction.APPLY else "rolled back"
    sentences = []
    if facts.completed:
        done = ", ".join(r.version for r in facts.completed)
        sentences.append(f"{done} {'stays' if len(facts.completed) == 1 else 'stay'} {verb}.")
    if not facts.transactional:
        number = facts.progress.number if facts.progress is not None else 0
        done_statements = max(number - 1, 0)
        sentences.append(
            f"{label} runs without a transaction: its first {done_statements} statement(s) are in the database, "
            f"and it is marked as interrupted."
        )
    elif facts.committed is None:
        sentences.append(
            f"The connection was lost while {label} was being committed and the database cannot be asked: "
            f"it is either wholly {verb} or not at all."
        )
    else:
        sentences.append(f"{label} was rolled back completely. Nothing is half done.")
    return " ".join(sentences)


def _next_steps(facts: Circumstances) -> tuple[str, ...]:
    script = facts.script
    command = "apply" if script.direction is Direction.APPLY else "rollback"
    name = script.path.name
    if facts.committed is None:
        return (
            "Run `flask db-migrate status` as soon as the database answers: it says which of the two it is.",
            f"Then run `flask db-migrate {command}` again if it is still to do.",
        )
    if not facts.transactional:
        return (
            f"Look at what the finished statements of {name} left behind, and undo or complete it.",
            "`flask db-migrate status` shows the migration as interrupted until that is settled.",
        )
    steps = [f"Mend {name}.", f"Run `flask db-migrate {command}` again; it goes on with {script.migration.version}."]
    if script.direction is Direction.APPLY and facts.completed:
        first = facts.completed[0]
        if first.outcome is Outcome.APPLIED:
            count = len(facts.completed)
            steps.append(f"Or take back what this run applied: `flask db-migrate rollback --steps {count}`.")
    return tuple(steps)
