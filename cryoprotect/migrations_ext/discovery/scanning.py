"""One look at the names in the scripts' folder tells what can run, in order, and what cannot; no file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DirectoryError, ScriptError
from ..model import Directory, Kind, Migration, Problem
from .names import BadName, Role, ScriptName, file_label, parse, shown
from .python_source import defines_apply
from .sources import read_text


def scan(directory: Path) -> Directory:
    """Return the migrations of `directory` by number, and a problem for everything that only looks like one.

    Files whose numbers clash are in the problems alone. Raises `DirectoryError` where the folder is missing, is a
    file or cannot be read.
    """
    look = _Look(_absolute(directory))
    migrations: list[Migration] = []
    for group in _by_number(look.candidates()):
        found = _combine(group)
        if isinstance(found, Migration):
            migrations.append(found)
        else:
            look.problems.append(found)
    return Directory(
        path=look.directory,
        migrations=tuple(sorted(migrations, key=lambda m: m.number)),
        problems=tuple(sorted(look.problems, key=lambda p: p.paths)),
    )


def unnumbered(directory: Path) -> tuple[Problem, ...]:
    """Return a problem for every Python file without a number that defines `apply`: a script that would never run.

    A name cannot tell such a file from a module that scripts import, so this opens them: it is for reports, not for
    the way to a run. Raises `DirectoryError` as `scan` does.
    """
    look = _Look(_absolute(directory))
    return tuple(
        Problem(
            paths=(path,),
            message=f"{shown(path.name)} defines `apply` and has no number.",
            hint=f"Rename it to <number>_{shown(path.name)} with the next free number, or move it out of the folder.",
            blocking=False,
        )
        for path in sorted(look.modules())
        if _is_forgotten_script(path)
    )


def _absolute(directory: Path) -> Path:
    """As named, links included, and safe from scripts that change the working directory."""
    return Path(os.path.abspath(directory))  # noqa: PTH100 - Path.resolve would follow links


def _is_forgotten_script(path: Path) -> bool:
    try:
        return defines_apply(read_text(path))
    except ScriptError:  # not even readable: whatever it is, it is no script that worked without its number
        return False


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A well-named entry that can be read."""

    name: ScriptName
    path: Path
    """The file of the apply part; of the rollback part for a rollback half."""
    rollback_path: Path | None = None


class _Look:
    """One scan under way: the folder, and the problems met so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problems: list[Problem] = []

    def candidates(self) -> Iterator[_Candidate]:
        """Yield what can be a migration or half of one; note what only looks like it."""
        for entry in _entries(self.directory):
            is_folder = _is_folder(entry)
            name = parse(entry.name, is_folder=is_folder)
            if name is None:
                continue
            path = self.directory / entry.name
            obstacle = self._obstacle(entry, folder=is_folder)
            if obstacle is not None:
                self._note(name, path, *obstacle)
            elif name.role is Role.FOLDER:
                yield from self._folder(name, path)
            elif isinstance(name, BadName):
                self._note(name, path, name.message, name.hint)
            else:
                yield _Candidate(name, path)

    def modules(self) -> Iterator[Path]:
        """Yield the Python files that are no scripts by their names."""
        for entry in _entries(self.directory):
            if (
                entry.name.lower().endswith(".py")
                and not entry.name.startswith((".", "__", "#"))
                and parse(entry.name, is_folder=False) is None
                and self._obstacle(entry, folder=False) is None
            ):
                yield self.directory / entry.name

    def _folder(self, name: ScriptName | BadName, path: Path) -> Iterator[_Candidate]:
        try:
            with os.scandir(path) as found:
                parts = {e.name.lower(): e for e in found if e.name.lower() in ("up.sql", "down.sql")}
        except OSError as error:
            self._note(name, path, *_unreadable(path, error))
            return
        if isinstance(name, BadName):
            if parts:
                self._note(name, path, name.message, name.hint)
            return
        for entry in parts.values():
            obstacle = self._obstacle(entry, folder=False)
            if obstacle is not None:
                self._note(name, path / entry.name, *obstacle)
                return
        if "up.sql" in parts:
            down = parts.get("down.sql")
            yield _Candidate(name, path / parts["up.sql"].name, path / down.name if down else None)
            return
        holds = "down.sql and no up.sql" if parts else "neither up.sql nor down.sql"
        self._note(
            name,
            path,
            f"The folder {shown(path.name)} has a migration's name and holds {holds}.",
            "Write its up.sql, or rename the folder so that it does not start with a number and `_`.",
            blocking=False,
        )

    def _note(
        self, name: ScriptName | BadName, path: Path, message: str, hint: str, *, blocking: bool | None = None
    ) -> None:
        if blocking is None:
            blocking = name.blocking if isinstance(name, BadName) else True
        self.problems.append(Problem((path,), message, hint, number=name.number, blocking=blocking))

    def _obstacle(self, entry: os.DirEntry[str], *, folder: bool) -> tuple[str, str] | None:
        """Message and hint where the entry must not or cannot be read."""
        try:
            if entry.is_symlink():
                target = os.path.realpath(entry.path, strict=True)
                if not target.startswith(self._root_prefix):
                    fault = "is a link that leads out of the folder of scripts"
                    return _obstacle(entry, fault, "Put the script itself there: nothing outside the folder is read.")
            if folder or entry.is_file():
                return None
            return _obstacle(entry, "is no regular file", "Put the script itself there, or move it away.")
        except FileNotFoundError:
            return _obstacle(entry, "is a link to nothing", "Restore what it points at, or remove it.")
        except OSError as error:
            return _unreadable(Path(entry.path), error)

    @cached_property
    def _root_prefix(self) -> str:
        return os.path.join(os.path.realpath(self.directory), "")  # noqa: PTH118 - with the separator at its end


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except FileNotFoundError:
        message = f"The folder of migration scripts {shown(directory)} is not there."
        hint = "Run `flask db-migrate init` to make it, or name another one with DB_MIGRATE_DIRECTORY or --dir."
    except NotADirectoryError:
        message = f"{shown(directory)} is a file, and has to be the folder of migration scripts."
        hint = "Name the folder with DB_MIGRATE_DIRECTORY or --dir, or run `flask db-migrate init` to make one."
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        message = f"The folder of migration scripts {shown(directory)} cannot be read: {reason}."
        hint = "Make it readable, or name another folder with DB_MIGRATE_DIRECTORY or --dir."
    raise DirectoryError(message, hint=hint)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that is closed to us: no folder that we could enter
        return False


def _obstacle(entry: os.DirEntry[str], fault: str, cure: str) -> tuple[str, str]:
    return f"{file_label(Path(entry.path))} {fault}.", cure


def _unreadable(path: Path, error: OSError) -> tuple[str, str]:
    return f"{file_label(path)} cannot be read: {error.strerror or error}.", "Make it readable, or move it away."


def _by_number(candidates: Iterable[_Candidate]) -> Iterable[list[_Candidate]]:
    groups: dict[int, list[_Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.name.number, []).append(candidate)
    return groups.values()


def _combine(group: list[_Candidate]) -> Migration | Problem:
    """Make one migration of what has one number, or say why that cannot be."""
    halves = [c for c in group if c.name.role is Role.ROLLBACK_HALF]
    scripts = [c for c in group if c.name.role is not Role.ROLLBACK_HALF]
    if not scripts:
        return _half_a_pair(halves)
    script = scripts[0]
    if len(scripts) > 1 or len(halves) > 1 or (halves and script.name.role is not Role.APPLY_HALF):
        return _clash(scripts, halves)
    return Migration(
        version=script.name.version,
        number=script.name.number,
        name=script.name.name,
        kind=Kind.PYTHON if script.name.role is Role.PYTHON else Kind.SQL,
        apply_path=script.path,
        rollback_path=halves[0].path if halves else script.rollback_path,
    )


def _half_a_pair(halves: list[_Candidate]) -> Problem:
    first = halves[0]
    return Problem(
        paths=_paths(halves),
        message=f"{_listed(halves)} would take back what no script applies: there is no .up.sql for it.",
        hint=f"Write {first.name.prefix}_{first.name.name}.up.sql, or remove what is left of it.",
        number=first.name.number,
        blocking=False,
    )


def _clash(scripts: list[_Candidate], halves: list[_Candidate]) -> Problem:
    hint = "Give each a number of its own; `flask db-migrate new` shows the next free one."
    if len(scripts) == 1 and scripts[0].name.role is Role.SQL:
        script = scripts[0].name
        hint = f"Rename {shown(scripts[0].path.name)} to {script.prefix}_{script.name}.up.sql to make them a pair."
    return Problem(
        paths=_paths(scripts + halves),
        message=f"Number {scripts[0].name.number} is taken more than once: {_listed(scripts + halves)}.",
        hint=hint,
        number=scripts[0].name.number,
    )


def _paths(candidates: list[_Candidate]) -> tuple[Path, ...]:
    return tuple(sorted(c.path for c in candidates))


def _listed(candidates: list[_Candidate]) -> str:
    names = [file_label(p) for p in _paths(candidates)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
