"""What needs an agreement is asked about on a terminal; without one the exact command to type is the answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..errors import ConfirmationRequiredError, DeclinedError
from ..model import Plan, Protection
from .text import plan_lines
from .typed import same_again

if TYPE_CHECKING:
    from ..api import Confirmation
    from .door import Door


def confirm(door: Door, plan: Plan, *, yes: bool) -> None:
    """Return when the plan may run.

    Raises `ConfirmationRequiredError` where nobody can be asked, and `DeclinedError` where the answer was no.
    """
    question = door.manager.confirmation(plan)
    if question is None:
        return
    by_name = question.protection is Protection.TYPE_NAME
    if yes and (not by_name or door.named_environment is not None):
        return
    if yes or not _can_ask():
        raise _required(door, plan, yes=yes, by_name=by_name)
    door.output.say(*plan_lines(plan))
    if not _agreed(question):
        raise DeclinedError("Nothing was changed.")


def _required(door: Door, plan: Plan, *, yes: bool, by_name: bool) -> ConfirmationRequiredError:
    environment = door.manager.environment
    missing = [] if yes else ["--yes"]
    if by_name and door.named_environment is None:
        missing += ["--env", environment]
    what = f"Rolling back {len(plan.steps)} migrations of {door.manager.database_name} in {environment}"
    why = (
        f"needs --env {environment} beside --yes" if yes else "has to be confirmed, and there is no terminal to ask on"
    )
    return ConfirmationRequiredError(f"{what} {why}.", hint=f"Type: `{same_again(door.context, *missing)}`")


def _can_ask() -> bool:
    """Whether somebody sees the question and can answer it; a dumb terminal is as good as any for that."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _agreed(question: Confirmation) -> bool:
    """Ask on stderr; an end of the input is a no, and Ctrl-C is a signal."""
    try:
        if question.protection is not Protection.TYPE_NAME:
            return click.confirm(question.question, default=False, err=True)
        typed: str = click.prompt(question.question, default="", show_default=False, err=True)
        return typed.strip() == question.expected
    except click.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from abort
        return False
