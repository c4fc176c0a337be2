"""What cannot run inside a migration is refused before any of it runs."""

from __future__ import annotations

from collections.abc import Sequence

from ..dialects.base import Dialect
from ..dialects.statements import Statement, StatementKind, psql_command, transaction_control, unwrap
from ..errors import ScriptError, ScriptGuardError

TAKE_CONTROL_OUT = (
    "Take it out: the migration is committed with its history row when the script is done. "
    "Where the script needs transactions of its own, declare it `transactional = False`."
)

_HARMLESS = ("\\restrict", "\\unrestrict")  # pg_dump's fence against psql commands inside the data
_CLIENT_CURES = {
    "\\connect": "Take it out: the app's configuration says which database is migrated.",
    "\\c": "Take it out: the app's configuration says which database is migrated.",
    "\\i": "Put the included file's statements in here, or make it a migration of its own.",
    "\\ir": "Put the included file's statements in here, or make it a migration of its own.",
    "\\copy": "Write COPY … FROM STDIN with the rows below it, or insert them with conn.table(…).insert([…]).",
    "\\set": "Write the value where it is used.",
}
_ANY_CLIENT_CURE = "Take it out: the client itself runs such commands, no database does. Only SQL can stand here."


def check_text(dialect: Dialect, text: str, *, transactional: bool, first_line: int = 1) -> None:
    """Raise what `statements_of` raises for a SQL file's text; for scripts of a plan, before the first one runs."""
    statements_of(dialect, text, transactional=transactional, first_line=first_line)


def statements_of(
    dialect: Dialect, text: str, *, transactional: bool, first_line: int | None = None
) -> list[Statement]:
    """Split `text`, a wrapper of `BEGIN; … COMMIT;` set aside in a transactional script.

    Raises `ScriptError` for commands of a command-line client, for NUL and for a COPY without its rows, and
    `ScriptGuardError` for transaction control in a transactional script. Errors carry a line only where `first_line`
    is given: lines of a `conn.sql` are no lines that a reader could look up.
    """
    if "\0" in text:
        raise ScriptError(
            "The text contains a NUL character.",
            hint="Take it out: the PostgreSQL driver would drop everything behind it and report success.",
            line=_line(first_line, 1 + text[: text.index("\0")].count("\n")),
        )
    statements = [s for s in dialect.split(text) if not _is_harmless(s)]
    command = psql_command(statements)
    if command is not None:
        name = command.text.split(maxsplit=1)[0]
        client = "psql" if name.startswith("\\") else "the sqlite3 shell"
        raise ScriptError(
            f"{name} is a command of {client}, not SQL.",
            hint=_CLIENT_CURES.get(name, _ANY_CLIENT_CURE),
            line=_line(first_line, command.line),
        )
    for statement in statements:
        if statement.kind is StatementKind.COPY_STDIN and statement.data is None:
            raise ScriptError(
                "The rows of this COPY … FROM STDIN do not start on the line after its semicolon.",
                hint="Begin a new line after the semicolon, and end the rows with a line that holds \\. alone.",
                line=_line(first_line, statement.line),
            )
    if not transactional:
        return statements
    statements, _wrapped = unwrap(statements)
    error = control_error(statements, first_line)
    if error is not None:
        raise error
    return statements


def control_error(statements: Sequence[Statement], first_line: int | None = None) -> ScriptGuardError | None:
    """Return the error for the first statement that begins or ends a transaction, or None."""
    statement = transaction_control(statements)
    if statement is None:
        return None
    words = " ".join(statement.text.split())
    return ScriptGuardError(
        f"The script controls the migration's transaction itself: {words:.60}",
        hint=TAKE_CONTROL_OUT,
        line=_line(first_line, statement.line),
    )


def _line(first_line: int | None, line: int) -> int | None:
    return None if first_line is None else first_line + line - 1


def _is_harmless(statement: Statement) -> bool:
    return statement.kind is StatementKind.PSQL and statement.text.startswith(_HARMLESS)
