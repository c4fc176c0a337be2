"""`flask db-migrate status`: the Overview."""

from __future__ import annotations

from dataclasses import replace

import click

from ...errors import HistoryError
from ...model import Overview
from ...report import error_lines, status_document
from ..command import MigrateCommand
from ..door import Door
from ..options import check_option, through_the_door
from ..text import overview_lines, trouble_lines
from ..typed import next_command

PENDING = 3
NO_DIRECTORY = 2


@click.command(cls=MigrateCommand, epilog="Example: flask db-migrate status --format json")
@through_the_door
@check_option
def status(door: Door, check: bool) -> None:
    """Show which migrations are applied and which are pending.

    Never changes anything.
    """
    overview = door.manager.overview()
    _show(door, overview)
    if not overview.directory.is_dir():
        door.context.exit(NO_DIRECTORY)
    if check:
        door.context.exit(_checked(door))


def _show(door: Door, overview: Overview) -> None:
    if door.output.is_json:
        door.output.document(status_document(overview))
        door.output.say(*trouble_lines(overview))
        return
    if overview.next_command:
        overview = replace(overview, next_command=next_command(door.context, overview.next_command))
    if door.output.is_terminal:
        from ..terminal import print_overview  # rich is not for pipes

        print_overview(overview)
    else:
        door.output.lines(overview_lines(overview))


def _checked(door: Door) -> int:
    """Return the exit code of `--check`; the table above it says the rest."""
    try:
        plan = door.manager.check()
    except HistoryError as error:
        door.output.complain(error_lines(error))
        return error.exit_code
    return PENDING if plan.steps else 0
