"""A name alone decides whether an entry of the scripts' folder is a migration, a mistake, or none of our business."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

MAX_VERSION_LENGTH = 50
"""What the tracking table's `version` column holds."""
MAX_NAME_LENGTH = 255
"""What its `name` column holds."""


class Role(StrEnum):
    """What a well-named entry is."""

    PYTHON = "python"
    SQL = "sql"
    APPLY_HALF = "apply-half"
    """`NNN_name.up.sql`."""
    ROLLBACK_HALF = "rollback-half"
    """`NNN_name.down.sql`."""
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class ScriptName:
    """A well-formed name, taken apart."""

    role: Role
    prefix: str
    """The number as written, separators of a dated one included."""
    version: str
    number: int
    name: str


@dataclass(frozen=True, slots=True)
class BadName:
    """A name that means to be a script's and cannot be one.

    It blocks where running the scripts after it would pass over one that has a place in the order: where it
    starts with a digit and ends as a script does. Without a number nobody can say what it would have come before.
    """

    message: str
    hint: str
    number: int | None = None
    blocking: bool = True
    role: Role | None = None
    """FOLDER where only the folder's content tells whether it means to be a migration."""


# The order matters: `.up.sql` also ends in `.sql`.
_ENDINGS = (
    (".up.sql", Role.APPLY_HALF),
    (".down.sql", Role.ROLLBACK_HALF),
    (".sql", Role.SQL),
    (".py", Role.PYTHON),
)
DATED = re.compile(
    r"((?:19|20|21)[0-9]{2}(-?)(?:0[1-9]|1[0-2])\2(?:0[1-9]|[12][0-9]|3[01])(?:[-_]?[0-9]{4,6})?)(?=_|$|-[0-9]{4}_)"
)
# Diesel writes a counter behind the time. It is no part of the number: dates with and without it must sort together.
_COUNTER = re.compile(r"-[0-9]{4}(?=_)")
_DIGITS = re.compile(r"[0-9]+")
_NUMBERED = re.compile(r"[0-9]+_")
_WORD = re.compile(r"[\w-]+")  # the quick answer for most names; the marks of some languages are not in it
_JOINERS = "\u200c\u200d"  # Persian, Hindi and other scripts need them inside words
_BACKUPS = (".bak", ".orig", ".rej", ".old", ".tmp", ".save", ".swp", ".swo", ".swx", ".pyc", ".pyo")
_SCRIPT_LIKE = ("", ".txt", ".psql", ".pgsql", ".ddl", ".dml")


def parse(entry: str, *, is_folder: bool) -> ScriptName | BadName | None:
    """Take the name of a file or folder apart; None where it plainly is no script."""
    if _is_ignored(entry):
        return None
    return _parse_folder(entry) if is_folder else _parse_file(entry)


def _is_ignored(entry: str) -> bool:
    """Hidden files, Python's own, and what editors, `patch` and `merge` leave behind."""
    return entry.startswith((".", "__", "#")) or entry.endswith("~") or entry.lower().endswith(_BACKUPS)


def _parse_folder(entry: str) -> ScriptName | BadName | None:
    if not _DIGITS.match(entry):
        return None
    ending, _ = _ending(entry)
    if ending:
        return BadName(
            f"{shown(entry)} is a folder with a file's name.",
            f"Rename it without {ending!r}, or move it out of the folder of scripts.",
            number=_number(entry),
        )
    found = _parse_stem(entry, Role.FOLDER, ending="")
    return replace(found, role=Role.FOLDER) if isinstance(found, BadName) else found


def _parse_file(entry: str) -> ScriptName | BadName | None:
    ending, role = _ending(entry)
    if role is None:
        return _parse_other(entry)
    if _DIGITS.match(entry):
        return _parse_stem(entry[: -len(ending)], role, ending=entry[-len(ending) :])
    if role is Role.PYTHON:
        return None  # a module that scripts import; `scanning.unnumbered` looks inside
    return BadName(
        f"{shown(entry)} has no number.",
        f"Rename it so that it starts with its number and `_`, such as "
        f"001_{_suggested(entry[: -len(ending)])}{ending}, or move it out of the folder of scripts.",
        blocking=False,
    )


def _parse_other(entry: str) -> BadName | None:
    """A file with another ending: worth a word where it starts as a script does and holds what may be one."""
    suffixes = [s.lower() for s in Path(entry).suffixes]
    last = suffixes[-1] if suffixes else ""
    if not _NUMBERED.match(entry) or not (last in _SCRIPT_LIKE or {".sql", ".py"} & set(suffixes)):
        return None
    return BadName(
        f"{shown(entry)} starts as a script does and ends as none.",
        "Scripts end in .py or .sql: rename it, or move it out of the folder of scripts.",
        number=_number(entry),
        blocking=False,
    )


def _parse_stem(stem: str, role: Role, *, ending: str) -> ScriptName | BadName:
    """`stem` starts with a digit."""
    prefix = prefix_of(stem)
    assert prefix is not None
    rest = stem[len(prefix) :]
    if DATED.match(stem) and (counter := _COUNTER.match(rest)):
        rest = rest[counter.end() :]
    separator, name = rest[:1], rest[1:]
    version = version_of(prefix)
    fault = _fault(separator, name, version)
    if fault is None:
        return ScriptName(role=role, prefix=prefix, version=version, number=int(version), name=name)
    return BadName(
        f"{shown(stem + ending)} {fault}.",
        f"Rename it, such as to {prefix}_{_suggested(stem[len(prefix) :])}{ending}.",
        number=_number(prefix) if separator in ("", "_") else None,
    )


def _fault(separator: str, name: str, version: str) -> str | None:
    """The end of a sentence on what is wrong with a stem; None where all is well."""
    if not name:
        return "has a number and no name"
    if separator != "_":
        return "has no `_` between its number and its name"
    if not _WORD.fullmatch(name):
        odd = next((c for c in name if not _is_word(c)), None)
        if odd is not None:
            return f"has {_named(odd)} in its name, where letters, digits, `_` and `-` may be"
    for what, text, limit in (("number", version, MAX_VERSION_LENGTH), ("name", name, MAX_NAME_LENGTH)):
        if len(text) > limit:
            return f"has a {what} of {len(text)} characters, and the tracking table holds {limit}"
    return None


def _ending(entry: str) -> tuple[str, Role | None]:
    lowered = entry.lower()
    return next(((e, role) for e, role in _ENDINGS if lowered.endswith(e)), ("", None))


def prefix_of(entry: str) -> str | None:
    """Return the number at the start of a name as it is written there, however the name goes on."""
    found = DATED.match(entry) or _DIGITS.match(entry)
    return found.group() if found else None


def version_of(prefix: str) -> str:
    """Return the digits of a prefix."""
    return prefix.replace("-", "").replace("_", "")


def _number(entry: str) -> int | None:
    version = version_of(prefix_of(entry) or "")
    return int(version) if 0 < len(version) <= MAX_VERSION_LENGTH else None


def _is_word(character: str) -> bool:
    """Letters and digits of any language, with the marks and joiners that belong to them."""
    return character in "_-" + _JOINERS or unicodedata.category(character)[0] in "LMN"


def _named(character: str) -> str:
    """A character as a person can look it up."""
    code = f"U+{ord(character):04X}"
    if character == " ":
        return f"a space ({code})"
    return f"{character!r} ({code})" if character.isprintable() else f"an invisible character ({code})"


def _suggested(text: str) -> str:
    return shown(slug(text)) or "<name>"


def slug(text: str) -> str:
    """What is left of `text` as a script's name: words of any language in lower case, joined by `_`."""
    text = unicodedata.normalize("NFC", text).lower()
    return re.sub("_{2,}", "_", "".join(c if _is_word(c) else "_" for c in text)).strip("_-" + _JOINERS)


def shown(text: str | Path) -> str:
    """`text` for a message: what is not printable (control characters, undecodable bytes) is written as an escape."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def place(path: Path, line: int | None = None) -> str:
    """How errors say where: `001_name.sql, line 3`."""
    return file_label(path) + (f", line {line}" if line else "")


def file_label(path: Path) -> str:
    """How messages name a script's file: its name, or `NNN_name/up.sql` for a part in a migration's folder."""
    inside = path.name.lower() in ("up.sql", "down.sql")
    return shown(f"{path.parent.name}/{path.name}" if inside else path.name)
