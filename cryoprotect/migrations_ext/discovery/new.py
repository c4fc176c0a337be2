"""A new script takes the next number in the folder's own style, is ready to edit, and replaces nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..errors import ConfigurationError, DirectoryError
from ..model import Directory, Kind
from .names import DATED, ScriptName, parse, prefix_of, shown, slug, version_of
from .scanning import scan

_MAX_FILE_NAME = 255  # bytes, on every file system in use
_FIRST = "001"
_TIMES = {0: ("", timedelta(days=1)), 4: ("%H%M", timedelta(minutes=1)), 6: ("%H%M%S", timedelta(seconds=1))}


def write_new(directory: Path, name: str, *, kind: Kind, pair: bool = False) -> Path | tuple[Path, Path]:
    """Write a new script and return its file, or the files of a pair's apply and rollback part.

    The number is the next one, padded as the highest in the folder; where that one is dated, it is the time now
    (UTC). Raises `DirectoryError` where the folder cannot be read or written, and `ConfigurationError` where `name`
    cannot be a script's name.
    """
    if pair and kind is not Kind.SQL:
        raise ConfigurationError("A pair of files is a form of SQL scripts.", hint="Use `--sql --pair`.")
    found = scan(directory)
    prefix, slugged = next_prefix(_prefixes(found), datetime.now(UTC)), _checked_slug(name)
    contents = _contents(f"{prefix}_{slugged}", slugged.replace("_", " "), kind=kind, pair=pair)
    for file in contents:
        _check_file_name(file, prefix, slugged)
    paths = _write(found.path, contents)
    return (paths[0], paths[1]) if pair else paths[0]


def next_prefix(taken: list[str], now: datetime) -> str:
    """Return the number that follows `taken`, written as the highest of them is."""
    if not taken:
        return _FIRST
    latest = max(taken, key=_number)
    return _next_dated(latest, now) or _counted_up(latest)


def _next_dated(latest: str, now: datetime) -> str | None:
    """The time `now` in the style of `latest`; None where that is no date, or a date and a counter."""
    found = DATED.fullmatch(latest)
    parts = re.fullmatch(r"[0-9]{4}(-?)[0-9]{2}-?[0-9]{2}([-_]?)([0-9]*)", latest)
    if not found or not parts or len(parts[3]) not in _TIMES:
        return None
    dash, separator = parts[1], parts[2]
    time, unit = _TIMES[len(parts[3])]
    style = f"%Y{dash}%m{dash}%d{separator}{time}"
    candidate = now.strftime(style)
    if _number(candidate) > _number(latest):
        return candidate
    if not time:  # the second script of a day: from here on with the time of day
        return f"{candidate}_{now:%H%M%S}"
    try:
        return (datetime.strptime(latest, style) + unit).strftime(style)
    except ValueError:  # digits that are no time of day
        return None


def _counted_up(latest: str) -> str:
    """`latest` with its last run of digits one higher and at least as long."""
    start = max(latest.rfind("-"), latest.rfind("_")) + 1
    return latest[:start] + str(int(latest[start:]) + 1).zfill(len(latest) - start)


def _prefixes(found: Directory) -> list[str]:
    """The numbers of everything in the folder that starts with one, what cannot run included."""
    paths = [m.apply_path for m in found.migrations] + [p for problem in found.problems for p in problem.paths]
    prefixes = (prefix_of(p.relative_to(found.path).parts[0]) for p in paths)
    return [p for p in prefixes if p]


def _number(prefix: str) -> int:
    return int(version_of(prefix))


def _checked_slug(name: str) -> str:
    found = slug(name)
    if not found:
        raise ConfigurationError(
            f"Nothing of {shown(name)!r} can stand in a script's name.",
            hint="Say in a few words what changes, such as `flask db-migrate new add_users`.",
        )
    return found


def _check_file_name(file: str, prefix: str, name: str) -> None:
    """Refuse what would not be found again under the number and the name that it was given."""
    if len(file.encode()) > _MAX_FILE_NAME:
        raise ConfigurationError("The name is too long for a file.", hint="Say in a few words what changes.")
    found = parse(file, is_folder=False)
    if not isinstance(found, ScriptName) or (found.prefix, found.name) != (prefix, name):
        raise ConfigurationError(
            f"{file} could not be told apart into number and name.", hint="Start the name with a letter."
        )


def _contents(label: str, description: str, *, kind: Kind, pair: bool) -> dict[str, str]:
    """File name -> text; the apply part's file first."""
    title = f"{description[0].upper()}{description[1:]}."
    if kind is Kind.PYTHON:
        return {f"{label}.py": _PYTHON.format(title=title)}
    if pair:
        return {
            f"{label}.up.sql": _SQL_APPLY.format(title=title),
            f"{label}.down.sql": _SQL_ROLLBACK.format(label=label),
        }
    return {f"{label}.sql": _SQL.format(title=title)}


def _write(directory: Path, contents: dict[str, str]) -> list[Path]:
    """Create all of the files, or none."""
    written: list[Path] = []
    try:
        for file, text in contents.items():
            with (directory / file).open("x", encoding="utf-8", newline="\n") as stream:
                written.append(directory / file)
                stream.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise ConfigurationError(
                f"{shown(directory / file)} is there already.", hint="Choose another name, or remove that file."
            ) from error
        raise DirectoryError(
            f"{shown(directory / file)} cannot be written: {error.strerror or error}.",
            hint="Make the folder of scripts writable, or write the script where it is.",
        ) from error
    return written


_PYTHON = '''\
"""{title}"""


def apply(conn, environment):
    """Make the change; `environment` is the label in force, such as "production"."""
    # conn.sql("CREATE TABLE example (id integer PRIMARY KEY, name varchar(255) NOT NULL)").execute()


def rollback(conn, environment):
    """Take back everything that `apply` did; without this function the migration cannot be rolled back."""
    # conn.sql("DROP TABLE example").execute()
'''

_SQL = """\
-- {title}

-- migrate:up

-- CREATE TABLE example (id integer PRIMARY KEY, name varchar(255) NOT NULL);


-- migrate:down

-- Take back everything above; without this part the migration cannot be rolled back.
-- DROP TABLE example;
"""

_SQL_APPLY = """\
-- {title}

-- CREATE TABLE example (id integer PRIMARY KEY, name varchar(255) NOT NULL);
"""

_SQL_ROLLBACK = """\
-- Rollback of {label}; without this file the migration cannot be rolled back.

-- DROP TABLE example;
"""
