"""`conn.sql`: a text goes to the database exactly as it was written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..dialects.statements import Statement
from ..errors import ScriptCallError, ScriptGuardError
from .builder import Builder, Drafts
from .channel import Channel
from .results import Result
from .texts import statements_of
from .values import driver_value

Parameters = Mapping[str, Any] | Sequence[Any]


class Sql(Builder):
    """One or many statements as text."""

    def __init__(self, channel: Channel, drafts: Drafts, text: str, params: Parameters | None) -> None:
        if not isinstance(text, str):
            raise ScriptCallError(
                f"conn.sql takes SQL as text; this is a {type(text).__name__}.",
                hint="SQLAlchemy constructs go to conn.execute(…), which runs them at once.",
            )
        super().__init__(channel, drafts, f"conn.sql({' '.join(text.split()):.60})")
        self._text = text
        self._params = params

    def _run(self) -> Result:
        if not self._params:
            return run_text(self._channel, self._text)
        return self._run_bound(self._params)

    def _run_bound(self, params: Parameters) -> Result:
        statements = _statements(self._channel, self._text)
        if len(statements) != 1:
            raise ScriptCallError(
                f"conn.sql(text, params) takes one statement; this text has {len(statements)}.",
                hint="Call conn.sql once for each statement that has parameters.",
            )
        statement = statements[0]
        dialect = self._channel.dialect.name
        if not isinstance(params, Mapping):
            if isinstance(params, str):
                raise ScriptCallError("params is a text.", hint="Pass a dictionary, or a list with one value per mark.")
            values = tuple(driver_value(value, dialect, lists=dialect == "postgresql") for value in params)
            return self._channel.run_bound(statement, statement.text, values)
        text, found = _bind(statement.text, params, dialect)
        unused = [name for name in params if name not in found]
        if unused:
            raise ScriptCallError(
                f"The parameter {unused[0]!r} does not occur in the statement as :{unused[0]}.",
                hint="Write :name where the value goes, outside quotes; leave out parameters that are not used.",
            )
        named = {key: driver_value(value, dialect, lists=dialect == "postgresql") for key, value in params.items()}
        return self._channel.run_bound(statement, text, named)


def run_text(channel: Channel, text: str, *, first_line: int | None = None, done: int = 0) -> Result:
    """Run every statement of `text` but the first `done`. `first_line` is where a file's text starts in the file."""
    statements = _statements(channel, text, first_line)
    return channel.run(statements, first_line=first_line or 1, done=done)


def _statements(channel: Channel, text: str, first_line: int | None = None) -> list[Statement]:
    try:
        return statements_of(channel.dialect, text, transactional=channel.transactional, first_line=first_line)
    except ScriptGuardError as error:
        channel.guard.remember(error)
        raise


# What a :name may not be looked for in: strings, quoted names, dollar quotes, comments, casts.
_TOKEN = re.compile(
    r"""(?P<other>
          (?<!\w)[eE]'(?:[^'\\]|\\.|'')*'  |  '(?:[^']|'')*'  |  "(?:[^"]|"")*"
        | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
        | --[^\n]*  |  /\*.*?\*/  |  ::
        )
      | :(?P<name>[^\W\d]\w*)
      | (?P<percent>%)""",
    re.VERBOSE | re.DOTALL,
)


def _bind(text: str, params: Mapping[str, Any], dialect: str) -> tuple[str, set[str]]:
    """Return the text with `:name` as the driver wants it, and the names found.

    SQLite binds `:name` itself; psycopg2 takes `%(name)s`, and reads every other `%` as the start of one.
    A `:name` without a value is left alone: in `a[1:n]` it belongs to the database.
    """
    found: set[str] = set()

    def put(match: re.Match[str]) -> str:
        name = match["name"]
        if name is not None and name in params:
            found.add(name)
            return match[0] if dialect == "sqlite" else f"%({name})s"
        return match[0] if dialect == "sqlite" else match[0].replace("%", "%%")

    return _TOKEN.sub(put, text), found
