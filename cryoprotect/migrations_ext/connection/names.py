"""Names of tables and columns as scripts write them; quotes are put where the database needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa

from ..errors import ScriptCallError

_NOT_A_NAME = ("(", ")", "->", ":", ",", '"')


@dataclass(frozen=True, slots=True)
class TableName:
    """A table, perhaps with its schema."""

    table: str
    schema: str | None = None

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read `table` or `schema.table`; raises `ScriptCallError`."""
        parts = name.split(".") if isinstance(name, str) else []
        if not 1 <= len(parts) <= 2 or not all(part.strip() for part in parts):
            raise ScriptCallError(
                f"{name!r} is no table name.",
                hint="Write 'table' or 'schema.table', without quotes; they are put where they are needed.",
            )
        return cls(parts[-1], parts[0] if len(parts) == 2 else None)

    def clause(self, *columns: str) -> sa.TableClause:
        """The table for SQLAlchemy, with the columns that a statement is going to name."""
        return sa.table(self.table, *(sa.column(name) for name in columns), schema=self.schema)

    def __str__(self) -> str:
        return self.table if self.schema is None else f"{self.schema}.{self.table}"


def column(name: str) -> sa.ColumnElement[Any]:
    """Return the column called `name`; raises `ScriptCallError` for an expression or another table's column."""
    if not isinstance(name, str) or not name.strip():
        raise ScriptCallError(f"{name!r} is no column name.", hint="Name the column as text.")
    if any(sign in name for sign in _NOT_A_NAME):
        raise ScriptCallError(
            f"{name!r} is more than a column's name: conn.table knows the columns of one table, "
            "no joined rows, JSON paths, aliases or casts.",
            hint="Write it as SQL: conn.sql('SELECT … FROM … JOIN …').execute().data.",
        )
    return sa.column(name.strip())


def listed(text: str) -> list[str]:
    """Cut `'a, b'` at its commas; raises `ScriptCallError` for brackets, where a comma would not be ours."""
    if not isinstance(text, str):
        raise ScriptCallError(f"{text!r} is no column name.", hint="Name the columns as text: 'a, b' or 'a', 'b'.")
    if "(" in text:
        column(text)
    return [part.strip() for part in text.split(",")]
