"""Errors leave in one way: a sentence and its cure on stderr, with JSON a document on stdout, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import click

from ..errors import MigrationError
from ..redaction import carries_secret, redact, redact_values
from ..report import error_document, error_lines, sentence
from . import DEBUG
from .output import Format, Output, opened
from .typed import ARGUMENTS, adapted

_KEY = f"{__package__}."
OUTPUT, FORMAT, APP = (_KEY + name for name in ("output", "format", "app"))
"""Keys of `Context.meta`."""


class MigrateCommand(click.Command):
    """A command of ours: knows how it was typed, owns its output, and turns every error into words."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the options; with JSON a usage error is a document, too."""
        given = list(args)
        try:
            ctx = super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if _asks_for_json(given):
                document = {"type": type(error).__name__, "message": error.format_message(), "hint": None}
                Output(Format.JSON, sys.stdout).document(
                    {"error": document, "completed": [], "failed": None, "database_state": "Nothing was changed."}
                )
            raise
        ctx.meta[ARGUMENTS] = given
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; leave with the exit code that its error has."""
        with opened(ctx.meta.get(FORMAT, Format.TEXT)) as output:
            ctx.meta[OUTPUT] = output
            try:
                return super().invoke(ctx)
            except (click.exceptions.Exit, click.Abort, click.ClickException):
                raise
            except KeyboardInterrupt:
                output.complain(["Stopped."])
                ctx.exit(130)
            except Exception as error:  # noqa: BLE001 - a person sees a sentence, and the traceback on request
                report(ctx, error)
                ctx.exit(error.exit_code if isinstance(error, MigrationError) else 1)


def report(ctx: click.Context, error: BaseException) -> None:
    """Write an error as this command's format wants it, without any secret."""
    output: Output = ctx.meta[OUTPUT]
    urls = tuple(known_urls(ctx))
    if ctx.meta.get(DEBUG):
        trace = "".join(traceback.format_exception(error))
        output.say(*redact(trace, urls).splitlines())
    if output.is_json:
        output.document(redact_values(error_document(error), urls))
        output.complain([redact(sentence(error), urls)])
    else:
        output.complain(adapted(ctx, redact(line, urls)) for line in error_lines(error))


def known_urls(ctx: click.Context) -> Iterator[str]:
    """Yield every URL with a secret in it that this process was given, by its environment or its app's config."""
    yield from (value for value in os.environ.values() if carries_secret(value))
    app = ctx.meta.get(APP)
    if app is None:
        return
    values = [*app.config.values(), *(app.config.get("SQLALCHEMY_BINDS") or {}).values()]
    for value in values:
        text = _as_text(value)
        if carries_secret(text):
            yield text


def _asks_for_json(arguments: list[str]) -> bool:
    return "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def _as_text(value: object) -> str:
    """A config value as text; SQLAlchemy's URL objects with their password."""
    if isinstance(value, dict):  # an engine's options
        value = value.get("url")
    render = getattr(value, "render_as_string", None)
    return str(render(hide_password=False)) if render is not None else value if isinstance(value, str) else ""
