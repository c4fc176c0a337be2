"""SQLite text to statements, cut where `sqlite3_complete()` sees an end, every character kept.

That function (SQLite's `complete.c`) is a small state machine that tells the semicolons inside a trigger's body from
others. To ask it at every semicolon is quadratic; here its table is walked once.

A word behind a dot where a statement could start (`.read`) is a command of the sqlite3 shell, up to the end of its
line: no database understands one. An unfinished quote takes the rest of the text with it, and SQLite speaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from itertools import islice

from .statements import Statement, StatementKind

_SPACE = " \t\n\r\f"
_WORD = r"A-Za-z0-9_$\u0080-\U0010ffff"  # in brackets: SQLite's IdChar
_COMMENT = r"--[^\n]*+|/\*.*?(?:\*/|\Z)"  # the end of the text ends a comment too
_QUOTED = r"""'[^']*+'|"[^"]*+"|`[^`]*+`|\[[^\]]*+\]"""


def split(text: str) -> list[Statement]:
    """Cut `text` into its statements; empty statements and lone comments yield nothing."""
    statements: list[Statement] = []
    line, counted = 1, 0
    position = _skip(text, 0)
    while position < len(text):
        line += text.count("\n", counted, position)
        counted = position
        if command := _SHELL_COMMAND.match(text, position):
            end = after = command.end()
            kind = StatementKind.PSQL
        else:
            end, after = _extent(text, position)
            kind = _kind(text, position)
        statements.append(Statement(text[position:end].rstrip(_SPACE), position, line, kind))
        position = _skip(text, after)
    return statements


_SKIP = re.compile(rf"(?:[;{_SPACE}]++|{_COMMENT})*+", re.DOTALL)
_SHELL_COMMAND = re.compile(r"\.[A-Za-z][^\n]*+")


def _skip(text: str, position: int) -> int:
    """The position of the next statement: behind white space, comments and empty statements."""
    match = _SKIP.match(text, position)
    return match.end() if match else position


# --- where a statement ends ---


class _State(Enum):
    """The states of `sqlite3_complete()`, by its names; NOTHING is START here."""

    START = auto()
    NORMAL = auto()
    """A single semicolon ends the statement."""
    EXPLAIN = auto()
    CREATE = auto()
    TRIGGER = auto()
    """Only `; END ;` ends the statement."""
    SEMI = auto()
    END = auto()


# What each token leads to; the empty word stands for any other token.
_NEXT = {
    _State.START: {"": _State.NORMAL, "explain": _State.EXPLAIN, "create": _State.CREATE},
    _State.NORMAL: {"": _State.NORMAL, ";": _State.START},
    _State.EXPLAIN: {
        "": _State.EXPLAIN,
        ";": _State.START,
        "create": _State.CREATE,
        **dict.fromkeys(("explain", "temp", "temporary", "trigger", "end"), _State.NORMAL),
    },
    _State.CREATE: {
        "": _State.NORMAL,
        ";": _State.START,
        "temp": _State.CREATE,
        "temporary": _State.CREATE,
        "trigger": _State.TRIGGER,
    },
    _State.TRIGGER: {"": _State.TRIGGER, ";": _State.SEMI},
    _State.SEMI: {"": _State.TRIGGER, ";": _State.SEMI, "end": _State.END},
    _State.END: {"": _State.TRIGGER, ";": _State.START},
}
_TOKEN = re.compile(
    rf"(?P<space>[{_SPACE}]++)|(?P<comment>{_COMMENT})|(?P<word>[{_WORD}]++|;)|{_QUOTED}|(?P<open>['\"`\[])|.",
    re.DOTALL,
)
_TO_SEMICOLON = re.compile(rf"(?:[^;'\"`\[/\-]++|{_QUOTED}|-(?!-)|/(?!\*))*+")


def _extent(text: str, start: int) -> tuple[int, int]:
    """Where the statement's text ends, and the position behind its semicolon."""
    state = _State.START
    comments = start, start  # the last stretch of comments: it is no part of the statement if nothing follows
    position = start
    while True:
        if state in (_State.NORMAL, _State.TRIGGER) and (run := _TO_SEMICOLON.match(text, position)):
            position = run.end()
        token = _TOKEN.match(text, position)
        if token is None:
            break
        if token.lastgroup == "open":
            return len(text), len(text)
        if token.lastgroup == "comment":
            follows = not text[comments[1] : position].strip(_SPACE)
            comments = (comments[0] if follows else position), token.end()
        elif token.lastgroup != "space":
            state = _NEXT[state].get(token.group().lower(), _NEXT[state][""])
            if state is _State.START:
                break
        position = token.end()
    trailing = comments[1] > start and not text[comments[1] : position].strip(_SPACE)
    return (comments[0] if trailing else position), position + (token is not None)


# --- what a statement is ---

_TRANSACTION_WORD = re.compile(
    rf"(?:begin|commit|end|release|rollback|savepoint)(?![{_WORD}])", re.ASCII | re.IGNORECASE
)


def _kind(text: str, start: int) -> StatementKind:
    if not _TRANSACTION_WORD.match(text, start):
        return StatementKind.SQL
    match list(islice(_tokens(text, start), 4)):
        case ["begin", *_]:
            return StatementKind.BEGIN
        case ["commit" | "end", *_]:
            return StatementKind.COMMIT
        # ROLLBACK [TRANSACTION [name]] TO [SAVEPOINT] name
        case ["rollback", "to", *_] | ["rollback", "transaction", "to", *_] | ["rollback", "transaction", _, "to"]:
            return StatementKind.SAVEPOINT
        case ["rollback", *_]:
            return StatementKind.ROLLBACK
    return StatementKind.SAVEPOINT


def _tokens(text: str, position: int) -> Iterator[str]:
    """Tokens up to the next semicolon, words in lower case."""
    for token in _TOKEN.finditer(text, position):
        if token.group() == ";":
            return
        if token.lastgroup not in ("space", "comment"):
            yield token.group().lower() if token.group().isascii() else token.group()
