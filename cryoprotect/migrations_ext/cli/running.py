"""What `apply` and `rollback` have in common: the run itself, and the run that is only shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model import Direction, Outcome, Plan, Step, StepResult
from ..report import results_document, shown_path
from . import interrupt, progress
from .text import count, step_line, warning_lines
from .typed import same_again

if TYPE_CHECKING:
    from .door import Door

_WOULD = {Direction.APPLY: Outcome.WOULD_APPLY, Direction.ROLLBACK: Outcome.WOULD_ROLLBACK}


def run(
    door: Door, direction: Direction, *, target: str | None, steps: int | None, expected: Plan | None = None
) -> list[StepResult]:
    """Run, show every step as it finishes, and return what was done; a signal stops it cleanly."""
    call = door.manager.apply if direction is Direction.APPLY else door.manager.rollback
    with progress.shown(door.output) as observer:
        return interrupt.run(
            door.manager,
            lambda: call(target=target, steps=steps, expected=expected, observers=[observer]),
            door.output.say,
        )


def would_run(plan: Plan) -> list[StepResult]:
    """Return what a plan would do, as results."""
    return [
        StepResult(s.migration.version, s.migration.name, _WOULD[s.direction], script=s.migration.apply_path)
        for s in plan.steps
    ]


def show_dry_run(door: Door, direction: Direction, *, target: str | None, steps: int | None) -> None:
    """Show the text of everything that would run, after the checks that a run makes before its first statement."""
    manager, output = door.manager, door.output
    plan = manager.plan(direction, target=target, steps=steps)
    rehearse = manager.apply if direction is Direction.APPLY else manager.rollback
    results = rehearse(target=target, steps=steps, dry_run=True)
    texts = {step.migration.version: _text(door, step) for step in plan.steps}
    output.say(*warning_lines(plan.warnings))
    if output.is_json:
        output.document(results_document(results, texts))
        return
    for result, step in zip(results, plan.steps, strict=False):
        output.lines([f"-- {step_line(result)} ({_path(step)})"])
        output.verbatim(texts[result.version])
        output.lines([""])
    output.lines(_closing_lines(door, len(results), direction))


def _text(door: Door, step: Step) -> str:
    texts = door.manager.texts(step.migration)
    if step.direction is Direction.APPLY or texts.rollback is None:  # both parts of a Python script are one text
        return texts.apply
    return texts.rollback


def _path(step: Step) -> str:
    migration = step.migration
    rollback_path = migration.rollback_path if step.direction is Direction.ROLLBACK else None
    return shown_path(rollback_path or migration.apply_path)


def _closing_lines(door: Door, number: int, direction: Direction) -> list[str]:
    if not number:
        return ["Dry run: there is nothing to do."]
    verb = "applied" if direction is Direction.APPLY else "rolled back"
    return [
        f"Dry run: {count(number)} would be {verb}; nothing was changed.",
        f"Next: {same_again(door.context, without='--dry-run')}",
    ]
