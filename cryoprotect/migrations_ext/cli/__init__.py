"""`flask db-migrate …`: parse, one call into the API, print.

Every Flask app's every command imports this module, so it knows the commands by name only and imports one when it runs.
"""

from __future__ import annotations

from importlib import import_module

import click

_COMMANDS = ("init", "status", "apply", "rollback", "new", "validate", "history")
"""In the order in which people meet them; each is a module of `commands` with the function of the same name."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, ours first."""
        return [*_COMMANDS, *(name for name in super().list_commands(ctx) if name not in _COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name, or None."""
        if cmd_name in _COMMANDS:
            command: click.Command = getattr(import_module(f".commands.{cmd_name}", __name__), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


def _show_tracebacks(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[DEBUG] = True


DEBUG = f"{__name__}.debug"
"""Key of `Context.meta`: whether errors come with their traceback."""


@click.group("db-migrate", cls=LazyGroup)
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_show_tracebacks,
    help="Show the traceback of an error.",
)
def db_migrate() -> None:
    """Apply, roll back and track database migrations."""


__all__ = ["db_migrate"]
