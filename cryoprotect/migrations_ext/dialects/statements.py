"""What a splitter yields: one statement as written, its place in the text, and what it does to transactions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class StatementKind(StrEnum):
    """What the engine has to know about a statement before it sends it."""

    SQL = "sql"
    """Anything the server runs inside a transaction like any other."""
    BEGIN = "begin"
    """`BEGIN`, `START TRANSACTION`."""
    COMMIT = "commit"
    """`COMMIT`, `END`, also `AND CHAIN`."""
    ROLLBACK = "rollback"
    """`ROLLBACK`, `ABORT` (not `ROLLBACK TO SAVEPOINT`)."""
    TWO_PHASE = "two-phase"
    """`PREPARE TRANSACTION`, `COMMIT PREPARED`, `ROLLBACK PREPARED`."""
    SAVEPOINT = "savepoint"
    """`SAVEPOINT`, `RELEASE`, `ROLLBACK TO`: allowed."""
    PSQL = "psql"
    """A command of a command-line client, which no database understands: `\\connect` of psql, `.read` of sqlite3."""
    COPY_STDIN = "copy-stdin"
    """`COPY … FROM STDIN`, with its rows in `data`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, from its first token to before its semicolon, every character as written."""

    text: str
    offset: int
    """Where `text` starts in the source, in characters."""
    line: int
    """Line of its first token in the source, 1-based."""
    kind: StatementKind = StatementKind.SQL
    data: str | None = None
    """The rows of a `COPY … FROM STDIN` with their line ends, without the closing `\\.` line.

    None where they do not start on the line after the semicolon; such a COPY must not be sent.
    """


def unwrap(statements: Sequence[Statement]) -> tuple[list[Statement], bool]:
    """The statements inside `BEGIN; … COMMIT;` and True where that wraps the script as a whole; else all, False.

    A wrapper that asks for more than a transaction (an isolation level, `AND CHAIN`) stays: to set it aside would
    change what the script does.
    """
    match list(statements):
        case [first, *inner, last] if _opens(first) and _closes(last) and transaction_control(inner) is None:
            return inner, True
    return list(statements), False


def transaction_control(statements: Iterable[Statement]) -> Statement | None:
    """The first statement that begins or ends a transaction, or None. Savepoints do neither."""
    return next((s for s in statements if s.kind in _TRANSACTION_CONTROL), None)


def psql_command(statements: Iterable[Statement]) -> Statement | None:
    """The first command of a command-line client, or None."""
    return next((s for s in statements if s.kind is StatementKind.PSQL), None)


_TRANSACTION_CONTROL = frozenset(
    {StatementKind.BEGIN, StatementKind.COMMIT, StatementKind.ROLLBACK, StatementKind.TWO_PHASE}
)
_COMMENT = re.compile(r"--[^\n\r]*|/\*.*?\*/", re.DOTALL)
_PLAIN_BEGIN = re.compile(
    r"(?:BEGIN(?: (?:DEFERRED|IMMEDIATE|EXCLUSIVE))?(?: (?:WORK|TRANSACTION))?|START TRANSACTION)",
    re.IGNORECASE | re.ASCII,
)
_PLAIN_COMMIT = re.compile(r"(?:COMMIT|END)(?: (?:WORK|TRANSACTION))?(?: AND NO CHAIN)?", re.IGNORECASE | re.ASCII)


def _opens(statement: Statement) -> bool:
    return statement.kind is StatementKind.BEGIN and _is(statement, _PLAIN_BEGIN)


def _closes(statement: Statement) -> bool:
    return statement.kind is StatementKind.COMMIT and _is(statement, _PLAIN_COMMIT)


def _is(statement: Statement, form: re.Pattern[str]) -> bool:
    words = _COMMENT.sub(" ", statement.text).split()
    return form.fullmatch(" ".join(words)) is not None
