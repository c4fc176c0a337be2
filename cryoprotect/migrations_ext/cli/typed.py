"""What we tell people to type can be pasted: it names the program and the app as they did."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

import click

ARGUMENTS = f"{__package__}.arguments"
ENVIRONMENT = f"{__package__}.environment"
DIRECTORY = f"{__package__}.directory"
"""Keys of `Context.meta`: the words after the command's name, and what two options named."""

_USUAL = "flask db-migrate"


def command_line(ctx: click.Context, *words: str) -> str:
    """Return a command of this group as it has to be typed here, with the environment and folder that were named."""
    return shlex.join([*_group(ctx), *words, *_named(ctx, words)])


def next_command(ctx: click.Context, command: str) -> str:
    """Return a command that the engine gives as `flask db-migrate …` as it has to be typed here."""
    words = shlex.split(command.removeprefix(_USUAL))
    return command_line(ctx, *words) if command.startswith(_USUAL) else command


def same_again(ctx: click.Context, *more: str, without: str | None = None) -> str:
    """Return the command that is under way, with `more` words at its end, and `without` a flag."""
    words = [word for word in ctx.meta[ARGUMENTS] if word != without]
    return command_line(ctx, str(ctx.info_name), *words, *more)


def flask_command(ctx: click.Context, *words: str) -> str:
    """Return a command of Flask's own for this app."""
    return shlex.join(["flask", *_app_option(ctx), *words])


def adapted(ctx: click.Context, text: str) -> str:
    """Return a text of the engine, which knows commands as `flask db-migrate …`, with the commands as they are here."""
    return text.replace(_USUAL, shlex.join(_group(ctx)))


def _named(ctx: click.Context, words: Sequence[str]) -> list[str]:
    """The options that decide what a command is about, unless `words` have them: `--env` may choose the database."""
    given = {word.partition("=")[0] for word in words}
    options = (("--env", ctx.meta.get(ENVIRONMENT)), ("--dir", ctx.meta.get(DIRECTORY)))
    return [part for option, value in options if value and option not in given for part in (option, str(value))]


def _group(ctx: click.Context) -> list[str]:
    program = ctx.find_root().info_name or ""
    if program.startswith("python"):
        group = ["db-migrate"] if program.endswith("flask") else []
        return [*program.split(), *_app_option(ctx), *group]
    return ["flask", *_app_option(ctx), "db-migrate"]


def _app_option(ctx: click.Context) -> list[str]:
    """`--app` where it was typed; FLASK_APP needs no repeating."""
    path = getattr(ctx.find_root().obj, "app_import_path", None)
    return ["--app", path] if path and path != os.environ.get("FLASK_APP") else []
