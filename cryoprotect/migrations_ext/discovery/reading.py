"""What a migration's files say, read without running them: what they declare, whether they can be taken back."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ScriptError
from ..model import Direction, Header, Kind, Migration, Problem
from .declarations import PART_KEYS, Declared
from .names import place
from .python_source import PythonFile, parse_python
from .sources import checksum, read_text
from .sql_source import Section, SqlFile, parse_sql


@dataclass(frozen=True, slots=True)
class Part:
    """One direction of a script, as its file has it now."""

    path: Path
    text: str
    first_line: int
    """Line of `path` (1-based) where `text` starts."""
    checksum: str
    transactional: bool
    tree: ast.Module | None = None
    """Python's syntax tree; None for SQL."""


def read(migration: Migration) -> Migration:
    """Return `migration` with its header, from one pass over its files.

    Raises `ScriptError`, with file and line, for a text that is no UTF-8, that cannot be parsed or that declares what
    cannot be. Whether an environment's label exists is for `check_environments`.
    """
    header_of = _python_header if migration.kind is Kind.PYTHON else _sql_header
    return replace(migration, header=header_of(migration))


def check_environments(migrations: Iterable[Migration], known: Collection[str]) -> tuple[Problem, ...]:
    """Return a problem for every migration (read before) that declares a label which is none of `known`."""
    problems = []
    for migration in migrations:
        labels = migration.header.environments if migration.header else None
        for label in sorted((labels or frozenset()) - set(known)):
            guess = difflib.get_close_matches(label, known, n=1)
            line = _declared_line(migration, "environments")
            problems.append(
                Problem(
                    paths=(migration.apply_path,),
                    message=f"{place(migration.apply_path, line)}: unknown environment {label!r}. "
                    f"Known are {', '.join(known)}.",
                    hint=(f"Did you mean {guess[0]!r}? " if guess else "")
                    + "Add your own labels to DB_MIGRATE_ENVIRONMENTS.",
                    line=line,
                    number=migration.number,
                )
            )
    return tuple(problems)


def texts(migration: Migration) -> tuple[str, str | None]:
    """Return apply part and rollback part for people to read, as written.

    A Python script is one text: its whole file comes first, and None. Raises `ScriptError` as `read` does.
    """
    if migration.kind is Kind.PYTHON:
        return read_text(migration.apply_path, migration.version), None
    apply, rollback, _ = _sql_sections(migration)
    return apply.text, rollback.text if rollback else None


def read_part(migration: Migration, direction: Direction) -> Part | None:
    """Return one direction's part from its file alone, or None where there is no rollback part.

    Raises `ScriptError` as `read` does.
    """
    if migration.kind is Kind.PYTHON:
        text, file = _python_file(migration)
        if direction is Direction.ROLLBACK and not file.reversible:
            return None
        transactional = _is_transactional(file.declared)
        return Part(migration.apply_path, text, 1, checksum(text), transactional, file.tree)
    if direction is Direction.APPLY:
        path, section = migration.apply_path, _apply_file(migration).apply
    elif migration.rollback_path is not None:
        path, section = migration.rollback_path, _rollback_section(migration, migration.rollback_path)
    else:
        path, section = migration.apply_path, _apply_file(migration).rollback
    if section is None:
        return None
    transactional = _is_transactional(section.declared)
    return Part(path, section.text, section.first_line, checksum(section.text), transactional)


def _python_header(migration: Migration) -> Header:
    text, file = _python_file(migration)
    return Header(
        checksum=checksum(text),
        rollback_checksum=None,
        reversible=file.reversible,
        description=file.description,
        rollback_transactional=_is_transactional(file.declared),
        **_values(file.declared),
    )


def _sql_header(migration: Migration) -> Header:
    apply, rollback, description = _sql_sections(migration)
    return Header(
        checksum=checksum(apply.text),
        rollback_checksum=checksum(rollback.text) if rollback else None,
        reversible=rollback is not None,
        description=description,
        rollback_transactional=_is_transactional(rollback.declared) if rollback else True,
        **_values(apply.declared),
    )


def _python_file(migration: Migration) -> tuple[str, PythonFile]:
    text = read_text(migration.apply_path, migration.version)
    return text, parse_python(text, migration.apply_path, migration.version)


def _sql_sections(migration: Migration) -> tuple[Section, Section | None, str]:
    """Apply part, rollback part and description."""
    file = _apply_file(migration)
    apply, rollback = file.apply, file.rollback
    assert apply is not None
    path = migration.rollback_path or migration.apply_path
    if migration.rollback_path is not None:
        rollback = _rollback_section(migration, path)
    for key, own in rollback.declared.items() if rollback else ():
        whole = apply.declared.get(key)
        if key not in PART_KEYS and (whole is None or own.value != whole.value):
            raise _error(
                migration,
                path,
                own.line,
                f"`{key}` is declared for the rollback part alone, and holds for the whole migration.",
                "Declare it with the apply part.",
            )
    return apply, rollback, file.description


def _apply_file(migration: Migration) -> SqlFile:
    """The file of the apply part; its rollback part, too, where that is no file of its own."""
    path = migration.apply_path
    file = parse_sql(read_text(path, migration.version), path, migration.version)
    if file.rollback is not None and (file.apply is None or is_half(path)):
        what = "and there is no `-- migrate:up`" if file.apply is None else "in a file for the apply part alone"
        cure = (
            "Write its statements into the .down.sql file."
            if is_half(path)
            else "Write `-- migrate:up` above the part that applies."
        )
        line = file.rollback.first_line - 1
        raise _error(migration, path, line, f"there is a `-- migrate:down` {what}.", cure)
    return file


def _rollback_section(migration: Migration, path: Path) -> Section | None:
    """The rollback part in a file of its own."""
    file = parse_sql(read_text(path, migration.version), path, migration.version, whole=Direction.ROLLBACK)
    if file.apply is not None:
        raise _error(
            migration,
            path,
            file.apply.first_line - 1,
            "there is a `-- migrate:up` in a file for the rollback part alone.",
            "Write its statements into the .up.sql file.",
        )
    return file.rollback


def is_half(path: Path) -> bool:
    """Whether the file's name says that it holds the apply part and nothing else."""
    name = path.name.lower()
    return name == "up.sql" or name.endswith(".up.sql")


def _is_transactional(declared: Mapping[str, Declared]) -> bool:
    return bool(declared["transactional"].value) if "transactional" in declared else True


def _values(declared: Mapping[str, Declared]) -> dict[str, Any]:
    return {key: one.value for key, one in declared.items()}


def _declared_line(migration: Migration, key: str) -> int | None:
    """Where the apply part's file declares `key`; looked up again, for an error's sake."""
    if migration.kind is Kind.PYTHON:
        declared: Mapping[str, Declared] = _python_file(migration)[1].declared
    else:
        declared = _sql_sections(migration)[0].declared
    return declared[key].line if key in declared else None


def _error(migration: Migration, path: Path, line: int, message: str, hint: str) -> ScriptError:
    message = f"{place(path, line)}: {message}"
    return ScriptError(message, version=migration.version, hint=hint, file=path, line=line)
