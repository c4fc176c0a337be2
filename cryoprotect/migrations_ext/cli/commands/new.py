"""`flask db-migrate new`: the file of the next migration."""

from __future__ import annotations

import click

from ...model import Kind
from ...report import shown_path
from ..command import MigrateCommand
from ..door import Door
from ..options import through_the_door
from ..typed import command_line


@click.command(cls=MigrateCommand, epilog="Example: flask db-migrate new add_storage_temperature --sql")
@through_the_door
@click.argument("name")
@click.option("--sql", is_flag=True, help="Write an SQL script; the default is Python.")
@click.option("--pair", is_flag=True, help="With --sql: two files, one that applies and one that rolls back.")
def new(door: Door, name: str, sql: bool, pair: bool) -> None:
    """Write the file of a new migration, with the next number."""
    paths = door.manager.new_script(name, kind=Kind.SQL if sql else Kind.PYTHON, pair=pair)
    if door.output.is_json:
        door.output.document({"script": str(paths[0]), "files": [str(path) for path in paths]})
        return
    door.output.lines(
        [
            *(f"Created {shown_path(path)}" for path in paths),
            f"Next: fill it in, then {command_line(door.context, 'apply', '--dry-run')}",
        ]
    )
