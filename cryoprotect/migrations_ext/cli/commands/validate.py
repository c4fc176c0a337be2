"""`flask db-migrate validate`: everything that is wrong, at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from ...errors import HistoryError
from ...model import Finding, Level
from ...report import findings_document, shown_path, wrapped
from ..command import MigrateCommand
from ..door import Door
from ..options import through_the_door
from ..text import count


@click.command(cls=MigrateCommand, epilog="Example: flask db-migrate validate --format json")
@through_the_door
def validate(door: Door) -> None:
    """Check every script, and the scripts against the history.

    Never changes anything and runs no script. Exits with 5 if anything is an error in this environment.
    """
    findings = door.manager.validate()
    if door.output.is_json:
        door.output.document(findings_document(findings))
    else:
        door.output.lines(_lines(findings))
    if any(finding.level is Level.ERROR for finding in findings):
        door.context.exit(HistoryError.exit_code)


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        where = ""
        if finding.file is not None:
            line = f", line {finding.line}" if finding.line is not None else ""
            where = f" ({shown_path(finding.file)}{line})"
        yield from wrapped(f"{finding.level.value}: {finding.message}{where}", rest="  ")
        yield from wrapped(finding.hint, first="  ", rest="  ")
    numbers = {level: sum(1 for f in findings if f.level is level) for level in reversed(Level)}
    said = [count(number, level.value) for level, number in numbers.items() if number]
    yield f"Found {', '.join(said)}." if said else "Everything is in order."
