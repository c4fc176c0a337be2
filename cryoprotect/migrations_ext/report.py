"""Overview, results and errors as documents and as plain lines: every door tells the same in the same words."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import (
    ConfigurationError,
    ConfirmationRequiredError,
    DeclinedError,
    EnvironmentMismatchError,
    HistoryError,
    InvalidDirectoryError,
    MigrationError,
    MigrationFailed,
    ScriptError,
)
from .model import Direction, Failure, Finding, HistoryEntry, MigrationStatus, Outcome, Overview, StepResult
from .redaction import redact, redact_values

WIDTH = 80

# --- documents -------------------------------------------------------------------------------------------------------


def status_document(overview: Overview) -> dict[str, dict[str, Any]]:
    """Return version -> facts, in order of number, with nothing but JSON's own types in it."""
    document: dict[str, dict[str, Any]] = {}
    for row in overview.rows:
        key = row.version if row.version not in document else f"{row.version}_{row.name}"
        document[key] = _status_row(row)
    return document


def results_document(results: Iterable[StepResult], texts: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return one entry per step; `texts` (version -> text that would run) is added where it is known."""
    return [_result(result, (texts or {}).get(result.version)) for result in results]


def findings_document(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return `{"findings": […]}`, in the shape that every command with findings has."""
    entries = [
        {
            "version": finding.version,
            "rule": finding.rule,
            "level": finding.level.value,
            "file": str(finding.file) if finding.file else None,
            "line": finding.line,
            "statement": finding.statement,
            "message": finding.message,
            "hint": finding.hint,
        }
        for finding in findings
    ]
    return {"findings": redact_values(entries)}


def history_document(entries: Iterable[HistoryEntry]) -> list[dict[str, Any]]:
    """Return one entry per attempt, newest first, its steps in order."""
    return [
        {
            "run": entry.run_id,
            "what": entry.what,
            "outcome": entry.outcome,
            "started_at": _iso(entry.started_at),
            "finished_at": _iso(entry.finished_at),
            "actor": entry.actor,
            "source": entry.source,
            "host": entry.host,
            "pid": entry.pid,
            "environment": entry.environment,
            "git_commit": entry.git_commit,
            "reason": entry.reason,
            "error": entry.error,
            "steps": [
                {
                    "version": step.version,
                    "name": step.name,
                    "outcome": step.outcome,
                    "at": _iso(step.at),
                    "duration_ms": step.duration_ms,
                    "statement": step.statement,
                    "error": step.error,
                }
                for step in entry.steps
            ],
        }
        for entry in entries
    ]


def error_document(error: BaseException, results: Sequence[StepResult] = ()) -> dict[str, Any]:
    """Return what went wrong, what was done before, and the state of the database; secrets are masked.

    `results` is what was completed, for an error that does not carry it itself.
    """
    completed = error.completed if isinstance(error, MigrationError) and error.completed else results
    document: dict[str, Any] = {
        "error": {"type": type(error).__name__, "message": sentence(error), "hint": cure(error)},
        "completed": results_document(completed),
        "failed": _failed(error),
        "database_state": _database_state(error),
    }
    masked: dict[str, Any] = redact_values(document)
    return masked


def _status_row(row: MigrationStatus) -> dict[str, Any]:
    applied, migration = row.applied, row.migration
    return {
        "version": row.version,
        "name": row.name,
        "script": str(migration.apply_path) if migration else None,
        "status": row.state.value,
        "applied_at": _iso(applied.applied_at) if applied else None,
        "edited": row.edited,
        "missing": row.missing,
        "out_of_order": row.out_of_order,
        "reversible": row.reversible,
        "last_error": redact(row.last_error) if row.last_error else None,
        "environment": applied.environment if applied else None,
        "duration_ms": applied.duration_ms if applied else None,
        "applied_by": applied.applied_by if applied else None,
        "checksum": applied.checksum if applied else None,
        "description": migration.header.description if migration and migration.header else None,
    }


def _result(result: StepResult, text: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "version": result.version,
        "name": result.name,
        "status": result.outcome.value,
        "applied_at": _iso(result.applied_at),
        "duration_ms": result.duration_ms,
        "script": str(result.script) if result.script else None,
    }
    return entry if text is None else {**entry, "text": text}


def _failed(error: BaseException) -> dict[str, Any] | None:
    if isinstance(error, MigrationFailed):
        failure = error.failure
        return {
            "version": failure.version,
            "name": failure.name,
            "direction": failure.direction.value,
            "file": str(failure.file) if failure.file else None,
            "line": failure.line,
            "column": failure.column,
            "statement": failure.statement,
            "statement_number": failure.statement_number,
            "statement_count": failure.statement_count,
            "message": failure.message,
            "detail": failure.detail,
            "hint": failure.server_hint,
            "next_steps": list(failure.next_steps),
        }
    if isinstance(error, MigrationError) and (error.version or error.file):
        return {
            "version": error.version,
            "file": str(error.file) if error.file else None,
            "line": error.line,
            "statement": None,
        }
    return None


_BEFORE_ANYTHING_RAN = (
    ConfigurationError,
    ConfirmationRequiredError,
    DeclinedError,
    EnvironmentMismatchError,
    HistoryError,
    ScriptError,
)


def _database_state(error: BaseException) -> str | None:
    """What is known for certain, else None."""
    if isinstance(error, MigrationFailed):
        return error.failure.database_state or None
    if isinstance(error, _BEFORE_ANYTHING_RAN) and not error.completed:
        return "Nothing was changed."
    if isinstance(error, MigrationError) and error.completed:
        return f"Complete and recorded: {', '.join(_label(r) for r in error.completed)}."
    return None


def _iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, with its offset."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


# --- plain lines -----------------------------------------------------------------------------------------------------


def sentence(error: BaseException) -> str:
    """Return the one sentence that an error is; a defect of this tool is called that."""
    if isinstance(error, MigrationError):
        return error.message
    text = " ".join(str(error).split())
    return f"unexpected error (a defect of this tool): {type(error).__name__}" + (f": {text}" if text else "")


def cure(error: BaseException) -> str | None:
    """Return what to do about an error."""
    return error.hint if isinstance(error, MigrationError) else "Run again with --debug for the traceback."


def error_lines(error: BaseException) -> list[str]:
    """Return an error as plain lines: the sentence, where, the cure, and what was done before."""
    if isinstance(error, MigrationFailed):
        return failure_lines(error.failure)
    lines = [*sentence(error).splitlines(), *_evidence(error)]
    if isinstance(error, MigrationError) and error.completed:
        lines += _done_before(error.completed)
    if not isinstance(error, InvalidDirectoryError):  # whose problems have told their cures
        lines += wrapped(cure(error) or "")
    return [printable(redact(line)) for line in lines]


def failure_lines(failure: Failure) -> list[str]:
    """Return the Failure report as plain lines that read well at 80 columns."""
    failure = _masked(failure)
    lines = [f"{headline(failure)}: {failure.message}", *_failure_evidence(failure)]
    if lines[-1]:
        lines.append("")
    if failure.completed:
        lines += _done_before(failure.completed)
    if failure.database_state:
        lines += ["What state is the database in?", *wrapped(failure.database_state, first="  ", rest="  ")]
    if failure.next_steps:
        lines.append("What now?")
        for number, step in enumerate(failure.next_steps, start=1):
            lines += wrapped(step, first=f"  {number}. ", rest="     ")
    return [printable(line) for line in lines]


def headline(failure: Failure) -> str:
    """Return which migration failed and in which direction, without a full stop."""
    verb = "did not apply" if failure.direction is Direction.APPLY else "did not roll back"
    return f"Migration {failure.version}_{failure.name} {verb}"


def evidence_lines(error: BaseException) -> list[str]:
    """Return what an error points at, without its sentence and its cure: for doors that show those in another place.

    File and line, the source with its caret, the server's own words, the problems of a folder; empty where there is
    nothing of the kind.
    """
    lines = _failure_evidence(_masked(error.failure)) if isinstance(error, MigrationFailed) else _evidence(error)
    return [printable(redact(line)) for line in lines]


def printable(text: str) -> str:
    """Return `text` with what could command a terminal, forge a line or turn the reading order spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(c) if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    """Return `text` broken into lines of 80 columns; what stands in `backticks` or is indented stays in one piece."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = rest if lines else first
        if line.startswith(" "):
            lines.append(indent + line)
            continue
        whole = re.sub(r"`[^`]*`", lambda m: m.group().replace(" ", "\0"), line)
        lines += textwrap.wrap(
            whole,
            WIDTH - 1,
            initial_indent=indent,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [line.replace("\0", " ") for line in lines]


def shown_path(path: Path) -> str:
    """Return `path` relative to the working directory where it is inside of it, else as it is."""
    try:
        here = Path.cwd()
    except OSError:  # the working directory was removed
        return str(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, invisible format characters (bidi among them), lone surrogates, line separators."""


def _spelled(character: str) -> str:
    return character if character == "\t" else character.encode("unicode_escape").decode("ascii")


def _place(file: Path, line: int | None) -> str:
    return shown_path(file) + (f", line {line}" if line is not None else "")


def _label(result: StepResult) -> str:
    return f"{result.version}_{result.name}"


def _evidence(error: BaseException) -> list[str]:
    """Where an error was found, and every problem of a folder."""
    lines = []
    if isinstance(error, MigrationError) and error.file and error.file.name not in error.message:
        lines.append("  " + _place(error.file, error.line))
    if isinstance(error, InvalidDirectoryError):
        for problem in error.problems:
            if problem.message not in error.message:
                lines += wrapped(problem.message, first="  - ", rest="    ")
            lines += wrapped(problem.hint, first="    ", rest="    ")
    return lines


def _failure_evidence(failure: Failure) -> list[str]:
    """Where a script failed and what the server said about it."""
    lines = [f"  {line}" for line in _labelled(_places(failure))]
    lines += _excerpt(failure)
    lines += [f"  {line}" for line in _labelled(_server_words(failure))]
    return lines


def _done_before(completed: Sequence[StepResult]) -> list[str]:
    verb = "Rolled back" if completed[0].outcome is Outcome.ROLLED_BACK else "Applied"
    return wrapped(f"Done before: {verb.lower()} {', '.join(_label(r) for r in completed)}.", rest="  ")


def _masked(failure: Failure) -> Failure:
    """Without secrets; the source line is masked where it is drawn, because that moves the caret."""
    return replace(
        failure,
        message=redact(failure.message),
        detail=failure.detail and redact(failure.detail),
        server_hint=failure.server_hint and redact(failure.server_hint),
        database_state=redact(failure.database_state),
        next_steps=tuple(map(redact, failure.next_steps)),
    )


def _places(failure: Failure) -> Iterator[tuple[str, str]]:
    if failure.file is not None:
        yield "File", _place(failure.file, failure.line)
    if failure.statement_number is not None:
        count = f" of {failure.statement_count}" if failure.statement_count is not None else ""
        yield "Statement", f"{failure.statement_number}{count}"


def _server_words(failure: Failure) -> Iterator[tuple[str, str]]:
    if failure.detail:
        yield "Detail", failure.detail
    if failure.server_hint:
        yield "Hint", failure.server_hint


def _labelled(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Align labels; what has several lines goes on under its first."""
    lines = []
    for label, text in pairs:
        first, *more = text.splitlines() or [""]
        lines.append(f"{label + ':':<11}{first}")
        lines += [" " * 11 + line for line in more]
    return lines


def _excerpt(failure: Failure) -> list[str]:
    """The source line, with a caret under the column where the server gave one."""
    source = failure.source_line
    if source is None and failure.statement:
        source = next((line for line in failure.statement.splitlines() if line.strip()), None)
    if not source or not source.strip():
        return []
    shown = redact(source)
    column = failure.column if shown == source and failure.source_line is not None else None
    number = str(failure.line) if failure.line is not None else ""
    text, caret = _window(shown, column, WIDTH - len(number) - 10)
    lines = ["", f"    {number} | {text}"]
    if caret is not None:
        lines.append(f"    {' ' * len(number)} | {caret}")
    return [*lines, ""]


def _window(source: str, column: int | None, width: int) -> tuple[str, str | None]:
    """Return the part of a line that fits, around `column` (1-based), and the caret's line."""
    source = source.rstrip()
    start = 0
    if column is not None and column > width - 8:
        start = max(0, min(column - width // 2, len(source) - width))
    text = source[start : start + width]
    left, right = "…" if start else "", "…" if start + width < len(source) else ""
    shown = left + printable(text.replace("\t", " ")) + right
    if column is None:
        return shown, None
    before = left + printable(source[start : column - 1].replace("\t", " "))
    return shown, " " * sum(_columns(c) for c in before) + "^"


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


__all__ = [
    "WIDTH",
    "cure",
    "error_document",
    "error_lines",
    "evidence_lines",
    "failure_lines",
    "findings_document",
    "headline",
    "history_document",
    "printable",
    "results_document",
    "sentence",
    "shown_path",
    "status_document",
    "wrapped",
]
