"""`flask db-migrate rollback`: undo what was applied."""

from __future__ import annotations

import click

from ...model import Direction, Plan, StepResult
from ...report import results_document
from ..command import MigrateCommand
from ..door import Door
from ..options import dry_run_option, selection, through_the_door
from ..prompts import confirm
from ..running import run, show_dry_run
from ..text import count, duration
from ..typed import command_line


@click.command(
    cls=MigrateCommand, epilog="Example: flask db-migrate rollback --target 004   (005 and above are undone)"
)
@through_the_door
@selection(Direction.ROLLBACK)
@dry_run_option
@click.option(
    "--yes", "-y", is_flag=True, help="Do not ask. In production this needs --env production typed beside it."
)
def rollback(door: Door, target: str | None, steps: int | None, dry_run: bool, yes: bool) -> None:
    """Roll back applied migrations, the newest first.

    Without --target and --steps: everything. Outside development and testing, more than one is asked about first.
    """
    if dry_run:
        show_dry_run(door, Direction.ROLLBACK, target=target, steps=steps)
        return
    plan = door.manager.plan(Direction.ROLLBACK, target=target, steps=steps)
    results = _agreed_run(door, plan, target=target, steps=steps, yes=yes)
    if door.output.is_json:
        door.output.document(results_document(results))
    else:
        door.output.lines(_closing_lines(door, results, target))


def _agreed_run(door: Door, plan: Plan, *, target: str | None, steps: int | None, yes: bool) -> list[StepResult]:
    """Ask where that is needed; what was shown is what runs."""
    if not plan.steps:
        return []
    confirm(door, plan, yes=yes)
    return run(door, Direction.ROLLBACK, target=target, steps=steps, expected=plan)


def _closing_lines(door: Door, results: list[StepResult], target: str | None) -> list[str]:
    manager = door.manager
    if results:
        took = duration(sum(result.duration_ms or 0 for result in results))
        sentence = f"Rolled back {count(len(results))} of {manager.database_name} ({manager.environment}) in {took}."
    elif target is not None and target.strip("0"):
        sentence = f"Nothing to do: nothing above {target} is applied."
    else:
        sentence = "Nothing to do: no migration is applied."
    return [sentence, f"Next: {command_line(door.context, 'status')}"]
