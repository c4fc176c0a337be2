"""Write the parts of the reference that the code knows better than any author, each between its two marks.

Run `python docs/generate.py` after a change to a command, a setting, a docstring or a table. A test fails until then.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

DOCS = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(DOCS.parent))

import cryoprotect.migrations_ext as package  # noqa: E402 - the checkout's own, whether installed or not
from cryoprotect.migrations_ext import errors, events, model, settings  # noqa: E402
from cryoprotect.migrations_ext.cli import db_migrate  # noqa: E402
from cryoprotect.migrations_ext.connection import MigrationConnection, Result, query  # noqa: E402
from cryoprotect.migrations_ext.connection.filters import Filtered  # noqa: E402
from cryoprotect.migrations_ext.dialects import dialect_for  # noqa: E402
from cryoprotect.migrations_ext.dialects.base import Place  # noqa: E402
from cryoprotect.migrations_ext.journal import Journal  # noqa: E402
from cryoprotect.migrations_ext.tracker import History, Tracker  # noqa: E402

GROUP = "flask db-migrate"


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Yield every command with its help and its options; what all of them share comes first, once."""
    with click.Context(db_migrate, info_name=GROUP) as ctx:
        found = {name: db_migrate.get_command(ctx, name) for name in db_migrate.list_commands(ctx)}
        known = {name: command for name, command in found.items() if command is not None}
        records = {name: _options(command, ctx, name) for name, command in known.items()}
        shared = [row for row in next(iter(records.values())) if all(row in rows for rows in records.values())]
        yield "## Options of every command"
        yield _table(("option", "meaning"), [*shared, *_options(db_migrate, ctx, GROUP)])
        for name, command in known.items():
            yield f"## {name}"
            yield _paragraphs(command.help or "")
            yield f"```text\n{_usage(command, ctx, name)}\n```"
            own = [row for row in records[name] if row not in shared]
            if own:
                yield _table(("option", "meaning"), own)
            if command.epilog:
                yield f"{_example(command.epilog)}"


def _options(command: click.Command, parent: click.Context, name: str) -> list[tuple[str, str]]:
    with click.Context(command, info_name=name, parent=parent) as ctx:
        records = [param.get_help_record(ctx) for param in command.params if isinstance(param, click.Option)]
        return [(f"`{record[0]}`", record[1]) for record in records if record]


def _usage(command: click.Command, parent: click.Context, name: str) -> str:
    with click.Context(command, info_name=name, parent=parent) as ctx:
        return f"{GROUP} {name} " + " ".join(command.collect_usage_pieces(ctx))


def _example(epilog: str) -> str:
    words, note = re.fullmatch(r"Example: (.*?)(?:   \((.*)\))?", epilog.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    return f"Example: `{words}`" + (f" ({note})" if note else "")


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_table() -> Iterator[str]:
    """Yield every setting."""
    rows = [(f"`{found.key}`", found.default, found.doc) for found in settings.describe_settings()]
    yield _table(("key", "default", "meaning"), rows)


def policies() -> Iterator[str]:
    """Yield what `by environment` means, as the settings answer it."""
    policy = {label: settings.Settings().policy(label) for label in settings.ENVIRONMENTS}
    keys = ("on_boot", "out_of_order", "edited", "missing", "protect")
    rows = [
        (f"`{settings.PREFIX}{key.upper()}`", *(f"`{getattr(found, key)}`" for found in policy.values()))
        for key in keys
    ]
    yield _table(("key", *policy), rows)


# --- conn -------------------------------------------------------------------------------------------------------------


def conn() -> Iterator[str]:
    """Yield the members of `conn` that scripts use."""
    yield from _members("conn", MigrationConnection, ("sql", "table", "rpc", "execute"))
    yield from _properties("conn", MigrationConnection, ("op", "connection", "dialect"))


def conn_table() -> Iterator[str]:
    """Yield what `conn.table(name)` offers, and what can follow each verb."""
    yield from _members("conn.table(name)", query.Table, ("select", "insert", "upsert", "update", "delete"))


def filters() -> Iterator[str]:
    """Yield the filters, and what only a select has."""
    names = [name for name, value in vars(Filtered).items() if callable(value) and not name.startswith("_")]
    yield _table(("filter", "rows whose column is"), [_row(Filtered, name) for name in names])
    yield _doc(Filtered.not_.fget)  # type: ignore[attr-defined]
    yield "A `select` can also be given:"
    own = ("order", "limit", "offset", "range", "single", "maybe_single")
    yield _table(("call", "meaning"), [_row(query.Select, name) for name in own])


def result() -> Iterator[str]:
    """Yield the attributes of a result."""
    yield from _fields(Result)


def _row(owner: type, name: str) -> tuple[str, str]:
    return f"`.{name}{_signature(getattr(owner, name), returns=False)}`", _doc(getattr(owner, name))


# --- Python API -------------------------------------------------------------------------------------------------------


def functions() -> Iterator[str]:
    """Yield the functions that the package offers."""
    for name in ("apply_migrations", "rollback_migrations", "get_migration_status", "initialize_migration_tracking",
                 "get_applied_migrations", "record_migration", "remove_migration_record"):  # fmt: skip
        function = getattr(package, name)
        yield f"### {name}\n\n{_call(name, function, returns=True)}\n\n{_doc(function)}"


def extension() -> Iterator[str]:
    """Yield the class that a host adds to its app."""
    found = package.Migrations
    yield _call("Migrations", found.__init__)
    yield _doc(found)
    yield from _members("Migrations", found, ("init_app",))


def error_table() -> Iterator[str]:
    """Yield every error with the exit code that a command ends with."""
    base = errors.MigrationError
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, base)]
    rows = [
        (f"`{e.__name__}`", f"`{e.__bases__[0].__name__}`", str(e.exit_code), _doc(e).partition("\n")[0]) for e in found
    ]
    yield _table(("error", "is a", "exit code", "meaning"), rows)


def event_list() -> Iterator[str]:
    """Yield the signals and what each carries."""
    for kind in events.Event.__args__:
        signal = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        assert hasattr(events, signal), signal
        yield f"### {signal}\n\n{_doc(kind)}"
        yield from _fields(kind)


def failure() -> Iterator[str]:
    """Yield the attributes of the Failure report."""
    yield from _fields(model.Failure)


# --- tables -----------------------------------------------------------------------------------------------------------


def tables() -> Iterator[str]:
    """Yield the statements that create the tables on PostgreSQL."""
    import sqlalchemy as sa

    dialect, place = dialect_for(sa.create_engine("postgresql+psycopg2://")), Place("shop", None)
    writes = [
        *Tracker(dialect, settings.Settings()).create(place, History()),
        *Journal(dialect, settings.Settings()).create(place),
    ]
    yield "```sql\n" + "\n\n".join(_pretty(write.sql) + ";" for write in writes) + "\n```"


def _pretty(statement: str) -> str:
    """A CREATE TABLE with a line for each column."""
    head, bracket, columns = statement.replace('"', "").partition("(")
    if "TABLE" not in head:
        return statement.replace('"', "")
    parts = re.split(r", (?![^(]*\))", columns[:-1])
    return f"{head}{bracket}\n    " + ",\n    ".join(parts) + "\n)"


# --- how docstrings and signatures are written ------------------------------------------------------------------------


def _members(owner: str, found: type, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        member = getattr(found, name)
        yield f"### {owner}.{name}\n\n{_call(f'{owner}.{name}', member)}\n\n{_doc(member)}"


def _properties(owner: str, found: type, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield f"### {owner}.{name}\n\n{_doc(getattr(found, name).fget)}"


def _fields(found: type) -> Iterator[str]:
    """A table of a dataclass's fields with the text below each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(found))).body[0].body  # type: ignore[attr-defined]
    rows: list[tuple[str, str, str]] = []
    for statement in body:
        if isinstance(statement, ast.AnnAssign):
            rows.append((f"`{ast.unparse(statement.target)}`", f"`{ast.unparse(statement.annotation)}`", ""))
        elif rows and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            rows[-1] = (*rows[-1][:2], " ".join(str(statement.value.value).split()))
    yield _table(("attribute", "type", "meaning"), rows)


def _signature(function: Callable[..., Any], *, returns: bool = True) -> str:
    signature = inspect.signature(function)
    parameters = [p for name, p in signature.parameters.items() if name != "self"]
    signature = signature.replace(parameters=parameters)
    if not returns:
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    return re.sub(r"(: |-> )(['\"])(.*?)\2(?=[,)]| =|$)", r"\1\3", str(signature))


def _call(name: str, function: Callable[..., Any], *, returns: bool = False) -> str:
    """How to call it, in a block; one parameter on a line where one line is too short for all."""
    signature = _signature(function, returns=returns)
    if len(name + signature) > 88:
        inside, _, tail = signature[1:].rpartition(")")
        parts = re.split(r", (?![^\[(]*[\])])", inside)
        signature = "(\n    " + ",\n    ".join(parts) + f",\n){tail}"
    return f"```text\n{name}{signature}\n```"


def _doc(found: Any) -> str:
    """A docstring as Markdown: its code blocks fenced, its lines joined into paragraphs."""
    return _paragraphs(inspect.getdoc(found) or "")


def _paragraphs(text: str) -> str:
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n(?! )", inspect.cleandoc(text)):
        if paragraph.startswith("::"):
            code = textwrap.dedent(paragraph.removeprefix("::").strip("\n"))
            code = re.sub(r"\n\n(?=def |class )", "\n\n\n", re.sub(r" {2,}# ", "  # ", code))  # as ruff formats it
            paragraphs.append(f"```python\n{code}\n```")
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs)


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


# --- where it stands --------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": commands,
    "settings": settings_table,
    "policies": policies,
    "conn": conn,
    "conn.table": conn_table,
    "filters": filters,
    "result": result,
    "functions": functions,
    "extension": extension,
    "errors": error_table,
    "events": event_list,
    "failure": failure,
    "tables": tables,
}
PAGES = (
    "reference/commands.md",
    "reference/settings.md",
    "reference/conn.md",
    "reference/python-api.md",
    "reference/exit-codes.md",
    "reference/tables.md",
)
_BETWEEN_MARKS = re.compile(r"<!-- generated: (\S+) -->\n.*?<!-- /generated -->", re.DOTALL)


def with_generated(page: str, text: str) -> str:
    """Return a page's text with what stands between its marks as the code has it now."""

    def part(found: re.Match[str]) -> str:
        blocks = "\n\n".join(PARTS[found[1]]())
        return f"<!-- generated: {found[1]} -->\n\n{blocks}\n\n<!-- /generated -->"

    assert _BETWEEN_MARKS.search(text), f"{page} has no marks"
    return _BETWEEN_MARKS.sub(part, text)


if __name__ == "__main__":
    for name in PAGES:
        path = DOCS / name
        path.write_text(with_generated(name, path.read_text(encoding="utf-8")), encoding="utf-8")
