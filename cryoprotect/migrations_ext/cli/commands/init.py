"""`flask db-migrate init`: the tracking tables, the scripts' folder, the environment that the database remembers."""

from __future__ import annotations

import click

from ...report import shown_path
from ..command import MigrateCommand
from ..door import Door
from ..options import through_the_door
from ..typed import ENVIRONMENT, command_line


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
    """Create the tracking tables and the scripts' folder.

    The first apply creates the tables by itself. The database remembers the environment that it was set up for.
    """
    made = door.manager.make_directory()
    changed = door.manager.initialize(reason=reason)
    name, environment = door.manager.database_name, door.manager.environment
    if door.output.is_json:
        folder = str(door.manager.directory)
        document = {"changed": changed, "database": name, "environment": environment, "directory": folder}
        door.output.document({**document, "directory_made": made})
        return
    done = "now keeps track of its migrations" if changed else "kept track of its migrations already"
    if made:
        door.output.lines([f"Made the folder {shown_path(door.manager.directory)} for the scripts."])
    following = command_line(door.context, "new", "NAME") if made else command_line(door.context, "apply")
    door.output.lines([f"{name} {done}; its environment is {environment}.", f"Next: {following}"])
