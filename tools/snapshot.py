"""What a PostgreSQL database holds, cut into named objects from `pg_dump`'s text, so that two can be compared."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Objects = Mapping[str, tuple[str, ...]]
"""Title of an object (`TABLE public.users`, `TABLE DATA public.users`) -> its lines in the dump."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that two databases do not have alike."""

    title: str
    detail: tuple[str, ...]
    """Lines to show: a unified diff, or where the object is missing."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out when two databases were held side by side."""

    differences: tuple[Difference, ...]
    of_the_moment: tuple[str, ...]
    """Objects that differ in nothing but times of this run and random UUIDs, which no two runs have in common."""


_TITLE = re.compile(r"-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[^;]*); Schema: (?P<schema>[^;]*); Owner:")
# pg_dump sets the defaults once for all tables behind them; the key of `\restrict` is made up anew in every dump.
_NOISE = re.compile(
    r"\\(?:un)?restrict |-- PostgreSQL database dump"
    r"|SET default_tablespace = '';|SET default_table_access_method = heap;"
)
_NO_OBJECTS = ("STATISTICS DATA",)


def parse(dump: str) -> Objects:
    """Cut the text of a plain `pg_dump` into its objects; rows of a table are sorted."""
    objects: dict[str, list[str]] = {}
    body = objects.setdefault("SETTINGS", [])
    lines = iter(dump.split("\n"))
    for line in lines:
        title = _TITLE.match(line)
        if title:
            body = objects.setdefault(_shown(title), [])
        elif line.startswith("COPY ") and line.endswith(" FROM stdin;"):
            body += [line, *sorted(_rows(lines))]
        elif not _NOISE.match(line):
            body.append(line)
    return {name: _trimmed(body) for name, body in objects.items() if not name.startswith(_NO_OBJECTS)}


def compare(left: Objects, right: Objects, left_name: str, right_name: str) -> Comparison:
    """Return what the two do not have in common; the names say in the details which is which."""
    differences: list[Difference] = []
    of_the_moment: list[str] = []
    for title in sorted(left.keys() | right.keys()):
        one, other = left.get(title), right.get(title)
        if one == other:
            continue
        if one is None or other is None:
            differences.append(Difference(title, (f"only in the database of {left_name if one else right_name}",)))
        elif _masked(one) == _masked(other):
            of_the_moment.append(title)
        else:
            diff = difflib.unified_diff(_masked(one), _masked(other), left_name, right_name, lineterm="", n=1)
            differences.append(Difference(title, tuple(diff)))
    return Comparison(tuple(differences), tuple(of_the_moment))


def _shown(title: re.Match[str]) -> str:
    schema = "" if title["schema"] == "-" else f"{title['schema']}."
    return f"{title['type']} {schema}{title['name']}"


def _trimmed(body: list[str]) -> tuple[str, ...]:
    """Without the frame of blank lines and `--` around an object; what is inside of it (a function's body) stays."""
    inside = [number for number, line in enumerate(body) if line.strip() not in ("", "--")]
    return tuple(body[inside[0] : inside[-1] + 1]) if inside else ()


def _rows(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line == "\\.":
            return
        yield line


_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_STARTED = time.time()
_DAYS = "|".join(f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (-1, 0, 1))
_DATE = re.compile(rf"\b(?:{_DAYS})(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d(?::\d\d)?|Z)?)?")
_UNIX_TIME = re.compile(r"\b[0-9]{10}(?:[0-9]{3}|[0-9]{6})?\b")


def _masked(lines: Iterable[str]) -> list[str]:
    """The lines without what differs from run to run, in an order that does not depend on it either."""
    masked = [_UNIX_TIME.sub(_mask_now, _UUID.sub("<uuid>", _DATE.sub("<time>", line))) for line in lines]
    return masked[:1] + sorted(masked[1:]) if masked and masked[0].startswith("COPY ") else masked


def _mask_now(number: re.Match[str]) -> str:
    """Seconds, milliseconds or microseconds since 1970, where they fall into this run."""
    seconds = int(number[0][:10])
    return "<time>" if _STARTED - 60 <= seconds <= time.time() + 60 else number[0]
