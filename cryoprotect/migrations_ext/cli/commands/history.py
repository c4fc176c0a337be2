"""`flask db-migrate history`: who tried what, when, from where, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ...model import HistoryEntry, StepRecord
from ...report import history_document
from ..command import MigrateCommand
from ..door import Door
from ..options import through_the_door
from ..text import duration, moment


@click.command(cls=MigrateCommand, epilog="Example: flask db-migrate history --version 005 --failed")
@through_the_door
@click.option("--version", metavar="VERSION", help="Only attempts that ran this migration.")
@click.option("--failed", is_flag=True, help="Only attempts in which a migration failed.")
@click.option(
    "--limit", type=click.IntRange(min=1, max=10_000), default=20, show_default=True, help="The newest N attempts."
)
def history(door: Door, version: str | None, failed: bool, limit: int) -> None:
    """Show who ran what, when, from where, and how it ended.

    The newest attempt comes first.
    """
    entries = door.manager.history(limit=limit, version=version, failed=failed)
    if door.output.is_json:
        door.output.document(history_document(entries))
        return
    if not entries:
        door.output.lines(["No attempt is recorded." if not (version or failed) else "No such attempt is recorded."])
        return
    for position, entry in enumerate(entries):
        door.output.lines([""] if position else [])
        door.output.lines(_lines(entry))


def _lines(entry: HistoryEntry) -> Iterator[str]:
    took = ""
    if entry.started_at is not None and entry.finished_at is not None and entry.what in ("apply", "rollback"):
        took = f" in {duration(round((entry.finished_at - entry.started_at).total_seconds() * 1000))}"
    yield f"{moment(entry.started_at)} UTC  {entry.what} {entry.outcome}{took}"
    commit = f", commit {entry.git_commit[:12]}" if entry.git_commit else ""
    yield f"  by {entry.actor} on {entry.host} ({entry.source}, process {entry.pid}), {entry.environment}{commit}"
    if entry.reason:
        yield f"  reason: {entry.reason}"
    yield from map(_step_line, entry.steps)
    if entry.error and not any(step.error for step in entry.steps):
        yield f"  {entry.error}"


def _step_line(step: StepRecord) -> str:
    label = f"{step.version}_{step.name}" if step.name else step.version
    words = f"  {step.outcome.replace('_', ' ')} {label}"
    if step.duration_ms is not None:
        words += f"  {duration(step.duration_ms)}"
    if step.error:
        statement = f"statement {step.statement}: " if step.statement is not None else ""
        words += f"  {statement}{step.error}"
    return words
