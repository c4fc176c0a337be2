"""What a command works with: the app's Manager, bound as the options say, and the output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..model import Source
from .application import enter_app, environment_variable
from .command import APP, OUTPUT
from .output import Output
from .typed import DIRECTORY, ENVIRONMENT

if TYPE_CHECKING:
    from flask import Flask

    from ..api import Manager


@dataclass(frozen=True)
class Door:
    """One call of a command."""

    context: click.Context
    output: Output
    app: Flask
    manager: Manager

    @classmethod
    @contextmanager
    def opened(cls, ctx: click.Context) -> Iterator[Door]:
        """Yield the door; `--env` stands in this process's environment for as long as it is open."""
        with environment_variable(ctx.meta.get(ENVIRONMENT)):
            manager = manager_of(ctx)
            yield cls(ctx, ctx.meta[OUTPUT], ctx.meta[APP], manager)

    @property
    def named_environment(self) -> str | None:
        """The environment that was typed, if one was."""
        label: str | None = self.context.meta.get(ENVIRONMENT)
        return label


def manager_of(ctx: click.Context) -> Manager:
    """Load the app and return its Manager, with the options of `ctx` applied.

    Raises `AppLoadError`, and `ConfigurationError` where the app has no migrations.
    """
    app = ctx.meta[APP] = enter_app(ctx)
    from ..api import Manager

    return Manager.for_app(
        app,
        directory=ctx.meta.get(DIRECTORY),
        environment=ctx.meta.get(ENVIRONMENT),
        source=Source.CLI,
    )
