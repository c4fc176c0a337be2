"""`flask db-migrate apply`: run what is pending."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from ...model import Direction, StepResult
from ...report import results_document
from ..command import MigrateCommand
from ..door import Door
from ..options import check_option, dry_run_option, selection, through_the_door
from ..running import run, show_dry_run, would_run
from ..text import count, duration, step_line
from ..typed import command_line, flask_command
from .status import PENDING


@click.command(cls=MigrateCommand, epilog="Example: flask db-migrate apply --target 005")
@through_the_door
@selection(Direction.APPLY)
@dry_run_option
@check_option
def apply(door: Door, target: str | None, steps: int | None, dry_run: bool, check: bool) -> None:
    """Apply pending migrations, the oldest first.

    Each runs in one transaction together with its row in the tracking table. Without --target and --steps: all.
    """
    if check:
        door.context.exit(_check(door))
    if dry_run:
        show_dry_run(door, Direction.APPLY, target=target, steps=steps)
        return
    results = run(door, Direction.APPLY, target=target, steps=steps)
    if door.output.is_json:
        door.output.document(results_document(results))
    else:
        door.output.lines(_closing_lines(door, results, target))


def _check(door: Door) -> int:
    """Show what is pending and return the exit code."""
    results = would_run(door.manager.check())
    if door.output.is_json:
        door.output.document(results_document(results))
    elif results:
        door.output.lines(map(step_line, results))
        door.output.lines([f"{count(len(results))} pending.", f"Next: {command_line(door.context, 'apply')}"])
    else:
        door.output.lines(["Nothing is pending, and files and history agree."])
    return PENDING if results else 0


def _closing_lines(door: Door, results: list[StepResult], target: str | None) -> Iterator[str]:
    manager = door.manager
    if results:
        took = duration(sum(result.duration_ms or 0 for result in results))
        yield f"Applied {count(len(results))} to {manager.database_name} ({manager.environment}) in {took}."
    elif target is not None:
        yield f"Nothing to do: everything up to {target} is applied."
    else:
        applied = sum(row.is_applied for row in manager.runner.read().rows)
        yield f"Nothing to do: the database is up to date ({applied} applied)."
    yield from _next_lines(door)


def _next_lines(door: Door) -> Iterator[str]:
    """A developer wants to see the app next, everybody else the state of the database."""
    pages = _pages(door) if door.manager.environment == "development" else []
    if not pages:
        yield f"Next: {command_line(door.context, 'status')}"
        return
    yield f"Next: {flask_command(door.context, 'run')}"
    port = os.environ.get("FLASK_RUN_PORT", "5000")
    for path in pages:
        yield f"  http://127.0.0.1:{port}{path}"


def _pages(door: Door) -> list[str]:
    """Return the app's first page and the admin page, as far as this app has them."""
    prefix = door.manager.settings.url_prefix.rstrip("/")
    rules = {rule.rule.rstrip("/") for rule in door.app.url_map.iter_rules()}
    if not door.manager.settings.admin or prefix not in rules:
        return []
    return ["/", prefix] if "" in rules else [prefix]
