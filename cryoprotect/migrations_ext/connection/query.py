"""`conn.table`: reading and writing the rows of one table without writing SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import ScriptCallError
from .builder import Drafts
from .channel import Channel
from .filters import Filtered, TableBuilder
from .names import TableName, column, listed
from .results import Result, rows_of
from .values import driver_value

Row = Mapping[str, Any]
_EVERYTHING: sa.ColumnElement[Any] = sa.literal_column("*")


class Table:
    """A table by name; the verb says what happens to it. `schema.table` names a table of another schema."""

    def __init__(self, channel: Channel, drafts: Drafts, name: str) -> None:
        self._channel = channel
        self._drafts = drafts
        self._table = TableName.parse(name)

    def select(self, *columns: str, count: Literal["exact"] | None = None, head: bool = False) -> Select:
        """Read rows: `'a, b'`, or `'a', 'b'`; every column without any. `count='exact'` also counts all rows that
        match, whatever the limit, into `.count`; with `head` it only counts."""
        return Select(self._channel, self._drafts, self._table, columns, count=count, head=head)

    def insert(self, rows: Row | Sequence[Row]) -> Insert:
        """Add a row, or many. Where one of many rows leaves a column out, it gets the column's default."""
        return Insert(self._channel, self._drafts, self._table, rows)

    def upsert(
        self, rows: Row | Sequence[Row], *, on_conflict: str | None = None, ignore_duplicates: bool = False
    ) -> Upsert:
        """Add rows; where one is there already, change it, or leave it with `ignore_duplicates`.

        `on_conflict` names the columns of a unique constraint (`'a,b'`); without it the primary key decides.
        """
        return Upsert(
            self._channel,
            self._drafts,
            self._table,
            rows,
            on_conflict=on_conflict,
            ignore_duplicates=ignore_duplicates,
        )

    def update(self, values: Row) -> Update:
        """Change the rows that the filters behind it name; without a filter it is refused."""
        return Update(self._channel, self._drafts, self._table, values)

    def delete(self) -> Delete:
        """Delete the rows that the filters behind it name; without a filter it is refused."""
        return Delete(self._channel, self._drafts, self._table)


class Select(Filtered):
    """Reading rows."""

    _verb = "select"

    def __init__(
        self,
        channel: Channel,
        drafts: Drafts,
        table: TableName,
        columns: Sequence[str],
        *,
        count: str | None,
        head: bool,
    ) -> None:
        if count not in (None, "exact"):
            raise ScriptCallError(f"select(count={count!r}): only 'exact' can be counted.", hint="Write count='exact'.")
        self._columns = _selected(columns)
        super().__init__(channel, drafts, table)
        self._counts = count is not None
        self._head = head
        self._order: list[sa.ColumnElement[Any]] = []
        self._limit: int | None = None
        self._offset: int | None = None
        self._single: Literal["exactly one", "at most one"] | None = None

    def order(self, name: str, *, desc: bool = False, nullsfirst: bool | None = None) -> Self:
        """Sort; called again, sort further within equals. Without `nullsfirst` nulls count as greatest everywhere."""
        found = column(name).desc() if desc else column(name).asc()
        first = desc if nullsfirst is None else nullsfirst
        self._order.append(found.nulls_first() if first else found.nulls_last())
        return self

    def limit(self, size: int) -> Self:
        """At most `size` rows."""
        self._limit = _not_negative("limit", size)
        return self

    def offset(self, size: int) -> Self:
        """Leave out the first `size` rows."""
        self._offset = _not_negative("offset", size)
        return self

    def range(self, start: int, end: int) -> Self:
        """Rows from `start` to `end`, both included, counted from 0."""
        if end < start:
            raise ScriptCallError(f"range({start}, {end}) ends before it starts.", hint="Both ends are included.")
        return self.offset(start).limit(end - start + 1)

    def single(self) -> Self:
        """Expect exactly one row, and put it into `.data` as a dictionary."""
        self._single = "exactly one"
        return self

    def maybe_single(self) -> Self:
        """Expect at most one row: `.data` is it, or None."""
        self._single = "at most one"
        return self

    def _run(self) -> Result:
        conditions = self._checked_conditions()
        count: int | None = None
        if self._counts:
            counting = sa.select(sa.func.count()).select_from(self._table.clause()).where(*conditions)
            count = self._channel.connection.execute(counting).scalar_one()
        if self._head:
            return Result(count=count)
        rows = rows_of(self._channel.connection.execute(self._statement(conditions))) or []
        return Result(self._one_of(rows) if self._single else rows, count)

    def _statement(self, conditions: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
        statement = sa.select(*self._columns).select_from(self._table.clause()).where(*conditions)
        limit = self._limit
        if self._single:  # a second row is all it takes to know better
            limit = 2 if limit is None else min(limit, 2)
        return statement.order_by(*self._order).limit(limit).offset(self._offset)

    def _one_of(self, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        if len(rows) > 1 or (not rows and self._single == "exactly one"):
            raise ScriptCallError(
                f"{self._table}: {self._single} row was expected, {'more than one' if rows else 'none'} matches.",
                hint="Narrow the filters, or leave single() out and look at the list."
                if rows
                else "Write maybe_single() where the row may be missing: .data is None then.",
            )
        return rows[0] if rows else None


class Insert(TableBuilder):
    """Adding rows."""

    _verb = "insert"

    def __init__(self, channel: Channel, drafts: Drafts, table: TableName, rows: Row | Sequence[Row]) -> None:
        self._rows = _checked_rows(self._verb, rows)
        super().__init__(channel, drafts, table)

    def _run(self) -> Result:
        arrays = array_columns(self._channel, self._table, self._rows)
        written: list[dict[str, Any]] = []
        for names, rows in _alike(self._rows):
            values = [
                {name: driver_value(row[name], self._channel.dialect.name, lists=name in arrays) for name in names}
                for row in rows
            ]
            written += self._write(names, values)
        return Result(written, len(written))

    def _write(self, names: Sequence[str], values: list[dict[str, Any]]) -> list[dict[str, Any]]:
        statement = self._statement(self._table.clause(*names), names).returning(_EVERYTHING)
        connection = self._channel.connection
        if names:
            return rows_of(connection.execute(statement, values)) or []
        # Rows of defaults only cannot travel together.
        return [row for _ in values for row in rows_of(connection.execute(statement)) or []]

    def _statement(self, table: sa.TableClause, _names: Sequence[str]) -> Any:
        return sa.insert(table)


class Upsert(Insert):
    """Adding rows, or changing those that are there."""

    _verb = "upsert"

    def __init__(
        self,
        channel: Channel,
        drafts: Drafts,
        table: TableName,
        rows: Row | Sequence[Row],
        *,
        on_conflict: str | None,
        ignore_duplicates: bool,
    ) -> None:
        super().__init__(channel, drafts, table, rows)
        self._conflict = listed(on_conflict) if on_conflict else None
        self._ignore = ignore_duplicates

    def _run(self) -> Result:
        if self._rows and self._conflict is None:
            self._conflict = self._primary_key()
        return super()._run()

    def _statement(self, table: sa.TableClause, names: Sequence[str]) -> Any:
        insert = (sqlite if self._channel.dialect.name == "sqlite" else postgresql).insert(table)
        target: list[sa.ColumnElement[Any]] = [sa.column(name) for name in self._conflict or ()]
        if not names:  # a row of defaults only
            return insert
        if self._ignore:
            return insert.on_conflict_do_nothing(index_elements=target)
        # Where only the key is given it is set to itself, so that the row is answered.
        changed = [n for n in names if n not in (self._conflict or ())] or list(names)
        return insert.on_conflict_do_update(
            index_elements=target, set_={name: insert.excluded[name] for name in changed}
        )

    def _primary_key(self) -> list[str]:
        with self._channel.unobserved() as connection:
            key = sa.inspect(connection).get_pk_constraint(self._table.table, schema=self._table.schema)
        if not key["constrained_columns"]:
            raise ScriptCallError(
                f"{self._table} has no primary key to tell which rows are there already.",
                hint="Name the columns of a unique constraint: upsert(rows, on_conflict='a,b').",
            )
        return key["constrained_columns"]


class Update(Filtered):
    """Changing rows."""

    _verb = "update"

    def __init__(self, channel: Channel, drafts: Drafts, table: TableName, values: Row) -> None:
        (self._values,) = _checked_rows("update", [values])
        if not self._values:
            raise ScriptCallError("update({}) changes nothing.", hint="Name at least one column and its new value.")
        super().__init__(channel, drafts, table)

    def _run(self) -> Result:
        conditions = _needed(self._checked_conditions(), "UPDATE", self._table)
        arrays = array_columns(self._channel, self._table, [self._values])
        dialect = self._channel.dialect.name
        values = {
            name: sa.literal(driver_value(value, dialect, lists=name in arrays), sa.types.NullType())
            for name, value in self._values.items()
        }
        statement = sa.update(self._table.clause(*values)).where(*conditions).values(values).returning(_EVERYTHING)
        rows = rows_of(self._channel.connection.execute(statement)) or []
        return Result(rows, len(rows))


class Delete(Filtered):
    """Deleting rows."""

    _verb = "delete"

    def _run(self) -> Result:
        conditions = _needed(self._checked_conditions(), "DELETE FROM", self._table)
        statement = sa.delete(self._table.clause()).where(*conditions).returning(_EVERYTHING)
        rows = rows_of(self._channel.connection.execute(statement)) or []
        return Result(rows, len(rows))


def array_columns(channel: Channel, table: TableName, rows: Iterable[Row]) -> set[str]:
    """Return the array columns of `table`; asked for only where a value is a list, which may be for a json column."""
    if channel.dialect.name != "postgresql":
        return set()
    if not any(isinstance(value, list | tuple) for row in rows for value in row.values()):
        return set()
    with channel.unobserved() as connection:
        columns = sa.inspect(connection).get_columns(table.table, schema=table.schema)
    return {found["name"] for found in columns if isinstance(found["type"], sa.ARRAY)}


def _alike(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """Neighbours that name the same columns: one statement each, so that a column left out gets its default."""
    for _key, group in groupby(rows, key=frozenset):
        found = list(group)
        yield list(found[0]), found


def _checked_rows(verb: str, rows: Any) -> list[dict[str, Any]]:
    many = isinstance(rows, Iterable) and not isinstance(rows, Mapping | str)
    found: list[dict[str, Any]] = []
    for row in rows if many else [rows]:
        if not isinstance(row, Mapping) or not all(isinstance(name, str) and name for name in row):
            raise ScriptCallError(
                f"{verb} takes rows as dictionaries of column name and value; this is {row!r:.80}.",
                hint=f"Write {verb}({{'column': value}})"
                + ("." if verb == "update" else f", or {verb}([{{…}}, {{…}}]) for many rows."),
            )
        found.append(dict(row))
    return found


def _selected(columns: Sequence[str]) -> list[sa.ColumnElement[Any]]:
    names = [name for text in columns for name in listed(text)] or ["*"]
    return [_EVERYTHING if name == "*" else column(name) for name in names]


def _needed(
    conditions: Sequence[sa.ColumnElement[bool]], statement: str, table: TableName
) -> Sequence[sa.ColumnElement[bool]]:
    if not conditions:
        verb = statement.split()[0].lower()
        raise ScriptCallError(
            f"conn.table({str(table)!r}).{verb}() has no filter and would {verb} every row.",
            hint=f"Add a filter such as .eq('id', 1). If every row is meant, say so: "
            f"conn.sql('{statement} {table} …').execute().",
        )
    return conditions


def _not_negative(what: str, size: int) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ScriptCallError(
            f"{what}({size!r}) must be a whole number that is not negative.", hint=f"Write {what}(10)."
        )
    return size
