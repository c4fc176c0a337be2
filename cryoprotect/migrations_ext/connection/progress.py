"""Where a script is: the statement under way, and a report of each one that is done."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Progress:
    """How far a script has come; read it after a failure to know what was under way."""

    number: int = 0
    """Statements sent so far by the whole script: the number of the one under way, 1-based."""
    count: int | None = None
    """What `number` will be at the end of this text: of a SQL file how many statements it has. None outside a text."""
    text: str | None = None
    """The statement as it was sent. None where a message of many statements was cancelled: which one is not known."""
    line: int | None = None
    """Line of the statement: in the file for a SQL file, in the text of the call for `conn.sql`."""
    offset: int | None = None
    """Where `text` starts in the text of the call, in characters. None where a position that the server gives does not
    point into the script: bound parameters, table builder, SQLAlchemy constructs."""

    def set_to(self, other: Progress) -> None:
        """Take over everything from `other`."""
        for field in fields(other):
            setattr(self, field.name, getattr(other, field.name))


@dataclass(frozen=True, slots=True)
class StatementReport:
    """A statement that the database has carried out."""

    number: int
    count: int | None
    line: int | None
    duration_ms: int
    """Of statements that travelled together the last carries the time of all."""
    text: str
