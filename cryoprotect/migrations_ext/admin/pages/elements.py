"""The pieces that every page is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from ...model import Overview, Problem
from ...redaction import redact
from . import words


class Tone(StrEnum):
    """The colours that mean something. Never alone: an icon and a word go with each."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    ACCENT = "accent"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Badge:
    """A state: its icon (a symbol of `partials/icons.html`), its word, its colour."""

    icon: str
    word: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Note:
    """A short remark on a migration, with the long one behind it."""

    text: str
    title: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, for machines, for the record and for people."""

    iso: str
    text: str
    ago: str

    @classmethod
    def of(cls, at: datetime, now: datetime) -> Self:
        """Tell `at`, an aware time, as seen from `now`."""
        at = at.astimezone(UTC)
        return cls(at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC", words.ago(at, now))


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a list of facts: what, how it stands, and a smaller line below."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN
    icon: str | None = None
    at: Moment | None = None
    detail: str = ""
    code: bool = False
    """Whether `text` is something to copy: a path, a checksum."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the reader has to know before the rest, with the cure."""

    tone: Tone
    icon: str
    text: str
    hint: str = ""
    where: str = ""
    """File and line, where there is one."""


def warning(text: str, hint: str = "", *, where: str = "") -> Notice:
    """Return a notice that something deserves a look."""
    return Notice(Tone.WARN, "warning", text, hint, where)


def fault(text: str, hint: str = "", *, where: str = "") -> Notice:
    """Return a notice that something is broken."""
    return Notice(Tone.BAD, "cross", text, hint, where)


def problem_notice(problem: Problem) -> Notice:
    """Return what is wrong with a file, with its place as far as the message does not name it."""
    where = ", ".join(path.name for path in problem.paths if path.name not in problem.message)
    if where and problem.line is not None:
        where += f", line {problem.line}"
    make = fault if problem.blocking else warning
    return make(redact(problem.message), redact(problem.hint), where=where)


@dataclass(frozen=True, slots=True)
class Tab:
    """A page in the navigation."""

    text: str
    endpoint: str
    current: bool


@dataclass(frozen=True, slots=True)
class Shell:
    """What every page has around it: which app, which database, which environment, who is looking."""

    app: str
    environment: str
    production: bool
    database: str
    """Short: host and database, or the file's name."""
    actor: str
    tabs: tuple[Tab, ...]


_TABS = (("Overview", "db_migrate.overview"),)


@dataclass(frozen=True, slots=True)
class Viewer:
    """From where the pages are seen: the app they belong to, who is looking, and when."""

    app: str
    actor: str
    now: datetime

    def moment(self, at: datetime) -> Moment:
        """Tell a time as seen from now."""
        return Moment.of(at, self.now)

    def shell(self, overview: Overview, endpoint: str) -> Shell:
        """Return the frame of the page at `endpoint`."""
        return Shell(
            app=self.app,
            environment=overview.environment,
            production=overview.environment == "production",
            database=words.short_database(overview.database),
            actor=self.actor,
            tabs=tuple(Tab(text, there, there == endpoint) for text, there in _TABS),
        )


@dataclass(frozen=True, slots=True)
class Message:
    """A page that says one thing, also to somebody who may see nothing else."""

    title: str
    text: str
    hint: str = ""
    code: tuple[str, ...] = ()
    """Lines to put into the app."""
    way_back: bool = False
    """Whether the overview is open to the reader."""
