"""What a script gets back: rows as dictionaries, in which no column hides another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Result:
    """What `.execute()` answers."""

    data: Any = field(default_factory=list)
    """Rows as a list of dictionaries, values as the driver gives them. Empty, and so falsy, where a statement returns
    none (DDL). After `single()` the one row itself."""
    count: int | None = None
    """`conn.sql`: rows that the last statement returned or changed, None where it has no such number (DDL).
    Table builder: rows written, or with `count='exact'` all rows that match, whatever the limit; else None."""


def rows_of(result: sa.CursorResult[Any]) -> list[dict[str, Any]] | None:
    """Return all rows of `result`, or None where the statement returns no rows at all.

    Names are the database's own. A name that comes again gets a number: `SELECT a.id, b.id` gives `id` and `id_2`.
    """
    if not result.returns_rows:
        return None
    names = unique_names(column[0] for column in _description(result))
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def unique_names(names: Iterable[str]) -> list[str]:
    """Return `names` with a number after each one that was there before."""
    given = list(names)
    if len(set(given)) == len(given):
        return given
    found: dict[str, None] = {}
    for name in given:
        unique, number = name, 2
        while unique in found or (unique != name and unique in given):
            unique, number = f"{name}_{number}", number + 1
        found[unique] = None
    return list(found)


def _description(result: sa.CursorResult[Any]) -> Sequence[Any]:
    # Not result.keys(): SQLAlchemy cuts a SQLite column named "a.b" down to "b".
    cursor = result.cursor
    assert cursor is not None
    return cursor.description
