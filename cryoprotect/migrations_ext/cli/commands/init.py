"""`flask db-migrate init`: the tracking tables, and the environment that the database remembers."""

from __future__ import annotations

import click

from ..command import ENVIRONMENT, MigrateCommand
from ..door import Door
from ..options import through_the_door
from ..typed import command_line


def _beside_environment(ctx: click.Context, _param: click.Parameter, reason: str | None) -> str | None:
    if reason is not None and ENVIRONMENT not in ctx.meta:
        raise click.UsageError("--reason says why the environment changes, so it needs --env.", ctx)
    return reason


@click.command(
    cls=MigrateCommand,
    epilog='Example: flask db-migrate init --env staging --reason "copied from production"',
)
@through_the_door
@click.option(
    "--reason",
    metavar="TEXT",
    callback=_beside_environment,
    help="With --env: make this the environment of a database that was set up for another one.",
)
def init(door: Door, reason: str | None) -> None:
    """Create the tracking tables.

    The first apply does this by itself. The database remembers the environment that it was set up for.
    """
    changed = door.manager.initialize(reason=reason)
    name, environment = door.manager.database_name, door.manager.environment
    if door.output.is_json:
        door.output.document({"changed": changed, "database": name, "environment": environment})
        return
    done = "now keeps track of its migrations" if changed else "kept track of its migrations already"
    door.output.lines(
        [f"{name} {done}; its environment is {environment}.", f"Next: {command_line(door.context, 'apply')}"]
    )
