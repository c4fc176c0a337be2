"""Options that commands share, each written once; the commands' own stand beside them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..model import Direction, State
from ..settings import ENVIRONMENTS
from . import DEBUG
from .command import FORMAT
from .door import Door, manager_of
from .output import Format
from .typed import DIRECTORY, ENVIRONMENT

F = TypeVar("F", bound=Callable[..., Any])


def _remembered(key: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[..., None]:
    """Return a callback that puts an option where the door finds it, so that no command has to hand it on."""

    def callback(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.meta[key] = convert(value)

    return callback


def _known_environments(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(label) for label in ENVIRONMENTS if label.startswith(incomplete)]


environment_option = click.option(
    "--env",
    metavar="LABEL",
    is_eager=True,  # known to the callbacks of other options
    expose_value=False,
    callback=_remembered(ENVIRONMENT),
    shell_complete=_known_environments,
    help="Environment: development, testing, staging, production, or a label of your own. Default: the app's.",
)
directory_option = click.option(
    "--dir",
    metavar="FOLDER",
    type=click.Path(file_okay=True, path_type=Path),
    expose_value=False,
    callback=_remembered(DIRECTORY),
    help="Folder of the migration scripts. Default: the app's.",
)
format_option = click.option(
    "--format",
    type=click.Choice([f.value for f in Format]),
    default=Format.TEXT.value,
    show_default=True,
    expose_value=False,
    callback=_remembered(FORMAT, Format),
    help="Text for people, JSON for programs.",
)
debug_option = click.option(
    "--debug",
    is_flag=True,
    hidden=True,
    expose_value=False,
    callback=lambda ctx, _param, value: ctx.meta.__setitem__(DEBUG, True) if value else None,
)


def through_the_door(function: F) -> F:
    """Give a command the shared options, and as its first argument the `Door` to the app."""

    @click.pass_context
    @functools.wraps(function)
    def command(ctx: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        with Door.opened(ctx) as door:
            return function(door, *args, **kwargs)

    for option in (debug_option, format_option, directory_option, environment_option):
        command = option(command)
    return command  # type: ignore[return-value]


def excludes(other: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that refuses this option beside `other`; whichever of them is read second notices."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        for name in other.split():
            if value and ctx.params.get(name):
                raise click.UsageError(
                    f"--{str(param.name).replace('_', '-')} and --{name.replace('_', '-')} exclude each other.", ctx
                )
        return value

    return callback


def selection(direction: Direction) -> Callable[[F], F]:
    """Return the two options that say how far to go."""
    if direction is Direction.APPLY:
        target, steps = "Apply up to and including this version (5 is 005).", "Apply the next N only."
    else:
        target, steps = (
            "Keep this version and roll back what is above it; 0 keeps nothing.",
            "Roll back the last N only.",
        )

    def decorate(function: F) -> F:
        for option in (
            click.option(
                "--steps", type=click.IntRange(min=1), metavar="N", callback=excludes("target check"), help=steps
            ),
            click.option(
                "--target",
                metavar="VERSION",
                callback=excludes("steps check"),
                shell_complete=_versions(direction),
                help=target,
            ),
        ):
            function = option(function)
        return function

    return decorate


dry_run_option = click.option(
    "--dry-run", is_flag=True, callback=excludes("check"), help="Show what would run, and its text; change nothing."
)
check_option = click.option(
    "--check",
    is_flag=True,
    callback=excludes("dry_run target steps"),
    help="Change nothing; exit with 3 if something is pending, 5 if files and history disagree.",
)


def _versions(
    direction: Direction,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completion of the versions that make sense as a target."""
    wanted = {Direction.APPLY: State.PENDING, Direction.ROLLBACK: State.APPLIED}[direction]

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            # With the context active an app that is created here knows that a command is at work, not a server.
            with ctx.scope(cleanup=False):
                rows = manager_of(ctx).overview(tolerant=True).rows
        except Exception:  # noqa: BLE001 - whatever is wrong, the shell's input line is no place to say it
            return []
        return [
            CompletionItem(row.version, help=row.name)
            for row in rows
            if row.state is wanted and row.version.startswith(incomplete)
        ]

    return complete
