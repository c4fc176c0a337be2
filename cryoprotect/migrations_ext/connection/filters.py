"""Which rows are meant: each filter is one condition, and all of them must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import sqlalchemy as sa

from ..errors import ScriptCallError
from .builder import Builder, Drafts
from .channel import Channel
from .names import TableName, column
from .values import driver_value

_TRUTH: dict[Any, Any] = {
    None: sa.null(),
    "null": sa.null(),
    True: sa.true(),
    "true": sa.true(),
    False: sa.false(),
    "false": sa.false(),
}


class TableBuilder(Builder):
    """A statement on one table."""

    _verb: ClassVar[str]

    def __init__(self, channel: Channel, drafts: Drafts, table: TableName) -> None:
        super().__init__(channel, drafts, f"conn.table({str(table)!r}).{self._verb}(…)")
        self._table = table

    def _value(self, value: Any) -> Any:
        """A value to compare with: lists are left to the driver, for array columns."""
        dialect = self._channel.dialect.name
        return driver_value(value, dialect, lists=dialect == "postgresql")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"conn.table(…).{self._verb}() has no {name!r}. Write the statement as SQL: conn.sql('…').execute()."
            )


class Filtered(TableBuilder):
    """The part that select, update and delete share."""

    def __init__(self, channel: Channel, drafts: Drafts, table: TableName) -> None:
        super().__init__(channel, drafts, table)
        self._conditions: list[sa.ColumnElement[bool]] = []
        self._negate = False

    @property
    def not_(self) -> Self:
        """Turn the next filter round: `.not_.is_('deleted_at', 'null')`."""
        self._negate = not self._negate
        return self

    def eq(self, column: str, value: Any) -> Self:
        """Equal; with None: is null."""
        return self._where(column, lambda c: c == self._value(value))

    def neq(self, column: str, value: Any) -> Self:
        """Not equal; with None: is not null."""
        return self._where(column, lambda c: c != self._value(value))

    def gt(self, column: str, value: Any) -> Self:
        """Greater."""
        return self._where(column, lambda c: c > self._value(value))

    def gte(self, column: str, value: Any) -> Self:
        """Greater or equal."""
        return self._where(column, lambda c: c >= self._value(value))

    def lt(self, column: str, value: Any) -> Self:
        """Less."""
        return self._where(column, lambda c: c < self._value(value))

    def lte(self, column: str, value: Any) -> Self:
        """Less or equal."""
        return self._where(column, lambda c: c <= self._value(value))

    def like(self, column: str, pattern: str) -> Self:
        """Match `%` and `_`, upper and lower case told apart on every database."""
        if self._channel.dialect.name == "sqlite":  # its LIKE ignores case, its GLOB does not
            return self._where(column, lambda c: c.op("GLOB", is_comparison=True)(_glob(pattern)))
        return self._where(column, lambda c: c.like(pattern))

    def ilike(self, column: str, pattern: str) -> Self:
        """Match `%` and `_`, whatever the case; SQLite knows the case of ASCII letters only."""
        escape = "\\" if self._channel.dialect.name == "sqlite" else None  # PostgreSQL's own default
        return self._where(column, lambda c: c.ilike(pattern, escape=escape))

    def in_(self, column: str, values: Iterable[Any]) -> Self:
        """One of `values`; of no values none."""
        if isinstance(values, str):
            raise ScriptCallError(
                f"in_({column!r}, {values!r}) was given one text.", hint=f"Pass a list: in_({column!r}, [{values!r}])."
            )
        listed = [self._value(value) for value in values]
        return self._where(column, lambda c: c.in_(listed))

    def is_(self, column: str, value: bool | str | None) -> Self:
        """Null, true or false: None, True, False or their names as text."""
        key = value.lower() if isinstance(value, str) else value
        if not isinstance(key, bool | str | None) or key not in _TRUTH:
            raise ScriptCallError(
                f"is_({column!r}, {value!r}): is_ takes 'null', 'true' or 'false'.",
                hint=f"To compare with a value write eq({column!r}, {value!r}).",
            )
        return self._where(column, lambda c: c.is_(_TRUTH[key]))

    def _where(self, name: str, condition: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[bool]]) -> Self:
        found = condition(column(name))
        self._conditions.append(sa.not_(found) if self._negate else found)
        self._negate = False
        return self

    def _checked_conditions(self) -> list[sa.ColumnElement[bool]]:
        if self._negate:
            raise ScriptCallError(
                "not_ stands at the end, with no filter behind it.", hint="Write .not_.eq('column', value)."
            )
        return self._conditions


def _glob(pattern: str) -> str:
    """Return a LIKE pattern, with backslash as its escape, as a GLOB pattern."""
    found: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            character = next(characters, "\\")
        elif character in "%_":
            found.append("*" if character == "%" else "?")
            continue
        found.append(f"[{character}]" if character in "*?[" else character)
    return "".join(found)
