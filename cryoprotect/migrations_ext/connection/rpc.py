"""`conn.rpc`: call a function of the database by name; three well-known ones are answered where it has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ScriptCallError
from .builder import Builder, Drafts
from .channel import Channel
from .names import TableName
from .results import Result, rows_of
from .sql import run_text
from .values import driver_value

_FUNCTIONS = """
SELECT p.proretset, t.typtype::text, t.typname::text, p.proargnames, p.proargmodes::text[],
       ARRAY(SELECT format_type(u.type, NULL)
             FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS u(type, place)
             ORDER BY u.place)
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_type AS t ON t.oid = p.prorettype
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.proname = %(name)s
  AND CASE WHEN %(schema)s::text IS NULL THEN pg_catalog.pg_function_is_visible(p.oid) ELSE n.nspname = %(schema)s END
ORDER BY p.oid
"""
_INPUT_MODES = ("i", "b", "v")
_JSON_TYPES = ("json", "jsonb")


@dataclass(frozen=True, slots=True)
class _Function:
    """What the catalogue knows about a function of PostgreSQL."""

    inputs: Mapping[str, str]
    """Name of each input parameter -> its type, as it can be written."""
    is_void: bool
    is_scalar: bool
    """Whether a call has one value, not rows."""


class Rpc(Builder):
    """One call."""

    def __init__(self, channel: Channel, drafts: Drafts, function: str, arguments: Mapping[str, Any]) -> None:
        self._name = TableName.parse(function)  # a function is named like a table
        super().__init__(channel, drafts, f"conn.rpc({function!r})")
        self._arguments = dict(arguments)

    def _run(self) -> Result:
        stand_in = _STAND_INS.get(self._name.table) if self._name.schema is None else None
        if self._channel.dialect.name != "postgresql":
            if stand_in is None:
                raise ScriptCallError(
                    f"conn.rpc({str(self._name)!r}): SQLite has no stored functions.",
                    hint="Write what the function does as SQL or in Python, where conn.dialect is 'sqlite'.",
                )
            return stand_in(self._channel, self._arguments)
        functions = [f for f in self._known_functions() if self._arguments.keys() <= f.inputs.keys()]
        if not functions and stand_in is not None:
            return stand_in(self._channel, self._arguments)
        return self._call(functions)

    def _known_functions(self) -> list[_Function]:
        with self._channel.unobserved() as connection:
            found = connection.exec_driver_sql(_FUNCTIONS, {"name": self._name.table, "schema": self._name.schema})
            return [_function(*row) for row in found]

    def _call(self, functions: Sequence[_Function]) -> Result:
        """Call it by named arguments. Where the name is unknown the server says so, better than we could."""
        quote = self._channel.connection.dialect.identifier_preparer.quote
        name = ".".join(quote(part) for part in (self._name.schema, self._name.table) if part is not None)
        # Between functions of one name the server chooses by types; a cast would choose for it.
        types = functions[0].inputs if len(functions) == 1 else {}
        arguments = ", ".join(
            f"{quote(key)} => " + (f"CAST(%s AS {types[key]})" if key in types else "%s") for key in self._arguments
        )
        values = tuple(
            driver_value(value, "postgresql", lists=types.get(key) not in _JSON_TYPES)
            for key, value in self._arguments.items()
        )
        answer = self._channel.connection.exec_driver_sql(f"SELECT * FROM {name}({arguments})", values)
        return _shaped(rows_of(answer) or [], functions)


def _shaped(rows: list[dict[str, Any]], functions: Sequence[_Function]) -> Result:
    if functions and functions[0].is_void:
        return Result()
    if functions and functions[0].is_scalar and all(len(row) == 1 for row in rows):
        return Result([value for row in rows for value in row.values()])
    return Result(rows)


def _function(
    returns_set: bool,
    kind: str,
    type_name: str,
    names: Sequence[str] | None,
    modes: Sequence[str] | None,
    types: Sequence[str],
) -> _Function:
    is_input = [mode in _INPUT_MODES for mode in modes] if modes else [True] * len(types)
    inputs = {n: t for n, t, i in zip(names or [], types, is_input, strict=False) if i and n}
    has_rows = returns_set or kind == "c" or type_name == "record"
    return _Function(inputs, is_void=type_name == "void", is_scalar=not has_rows)


def _has_table(channel: Channel, arguments: Mapping[str, Any]) -> Result:
    name = TableName.parse(_argument("has_table", arguments, "table_name"))
    with channel.unobserved() as connection:
        return Result([channel.dialect.has_table(connection, name.table, name.schema)])


def _has_column(channel: Channel, arguments: Mapping[str, Any]) -> Result:
    name = TableName.parse(_argument("has_column", arguments, "table_name"))
    column = _argument("has_column", arguments, "column_name")
    with channel.unobserved() as connection:
        return Result([channel.dialect.has_column(connection, name.table, column, name.schema)])


def _exec_sql(channel: Channel, arguments: Mapping[str, Any]) -> Result:
    return run_text(channel, _argument("exec_sql", arguments, "sql", "query", "sql_query"))


def _argument(function: str, arguments: Mapping[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(arguments.get(name), str):
            return str(arguments[name])
    raise ScriptCallError(
        f"conn.rpc({function!r}) needs {' or '.join(names)} as text.",
        hint=f"Write conn.rpc({function!r}, {{{names[0]!r}: '…'}}).execute().",
    )


_STAND_INS: dict[str, Callable[[Channel, Mapping[str, Any]], Result]] = {
    "has_table": _has_table,
    "has_column": _has_column,
    "exec_sql": _exec_sql,
}
