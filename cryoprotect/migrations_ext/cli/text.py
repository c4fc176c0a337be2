"""Plain lines for people and for grep: no colours, no boxes, one migration a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from ..model import Direction, MigrationStatus, Overview, Plan, Problem, State, StepResult
from ..redaction import redact
from ..report import shown_path, wrapped

STATUS_COLUMNS = ("Version", "Name", "State", "Applied at (UTC)", "Took", "By")


def overview_lines(overview: Overview) -> Iterator[str]:
    """Yield what `status` says: the verdict, the table, what is wrong, the next command."""
    yield overview.sentence
    yield place_line(overview)
    if overview.rows:
        yield ""
        yield from table_lines([STATUS_COLUMNS, *map(status_cells, overview.rows)])
    yield from trouble_lines(overview)
    if overview.next_command:
        yield ""
        yield f"Next: {overview.next_command}"


def place_line(overview: Overview) -> str:
    """Return which database, environment and folder this is about."""
    return (
        f"Database {overview.database}, environment {overview.environment}, scripts in {shown_path(overview.directory)}"
    )


def trouble_lines(overview: Overview) -> Iterator[str]:
    """Yield the errors of single migrations, the problems of the folder, and the warnings."""
    errors = [
        f"Last error of {row.version}_{row.name}: {redact(row.last_error)}" for row in overview.rows if row.last_error
    ]
    if errors or overview.problems or overview.warnings:
        yield ""
    yield from errors
    for problem in overview.problems:
        yield from problem_lines(problem)
    yield from warning_lines(overview.warnings)


def problem_lines(problem: Problem) -> Iterator[str]:
    """Yield a problem of the folder with its cure."""
    yield f"Problem: {problem.message}"
    yield from wrapped(problem.hint, first="  ", rest="  ")


def warning_lines(warnings: Iterable[str]) -> Iterator[str]:
    """Yield warnings, one line each."""
    for warning in warnings:
        yield f"Warning: {warning}"


def status_cells(row: MigrationStatus) -> tuple[str, ...]:
    """Return one row of the table of `status`."""
    applied = row.applied
    return (
        row.version,
        row.name,
        ", ".join(state_words(row)),
        moment(applied.applied_at) if applied and row.state is State.APPLIED else "",
        duration(applied.duration_ms) if applied else "",
        (applied.applied_by or "") if applied else "",
    )


def state_words(row: MigrationStatus) -> list[str]:
    """Return a migration's state and what is odd about it."""
    flags = {"edited": row.edited, "missing": row.missing, "out of order": row.out_of_order, "failed": row.last_error}
    return [row.state.value, *(word for word, is_set in flags.items() if is_set)]


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield what a plan runs, in order."""
    yield "To roll back, in this order:" if plan.direction is Direction.ROLLBACK else "To apply, in this order:"
    for step in plan.steps:
        yield f"  {step.migration.label}"


def step_line(result: StepResult) -> str:
    """Return one finished step, as `applied 001_initial_schema  12 ms`."""
    words = f"{result.outcome.value.replace('_', ' ')} {result.version}_{result.name}"
    return words if result.duration_ms is None else f"{words}  {duration(result.duration_ms)}"


def table_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their columns aligned and two blanks between them; the last column ends where its text ends."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def moment(at: datetime | None) -> str:
    """Return a time to the second; the heading says that it is UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""


def duration(milliseconds: int | None) -> str:
    """Return a duration with the unit that fits it."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


def count(number: int, noun: str = "migration") -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
