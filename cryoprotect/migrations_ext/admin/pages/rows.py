"""One migration as a line of a list, and the list in its groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ...model import Header, MigrationStatus, Overview, Problem, State
from ...redaction import redact
from . import words
from .elements import Badge, Moment, Note, Tone, Viewer


class Section(StrEnum):
    """The groups of the list, in their order on the page."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PENDING = "pending"
    APPLIED = "applied"
    SKIPPED = "skipped"


class Show(StrEnum):
    """Which rows are wanted."""

    ALL = "all"
    PENDING = "pending"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Row:
    """One migration in a list."""

    label: str
    version: str
    linked: bool
    """Whether it has a page of its own: not where somebody else's row has a version that is no number."""
    section: Section
    badge: Badge
    description: str
    notes: tuple[Note, ...]
    error: str
    at: Moment | None
    byline: str
    """Who, and how long: `alice · 0.8 s`."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one section under a heading."""

    slug: str
    title: str
    caption: str
    rows: tuple[Row, ...]
    total: int
    """How many there are, more than `rows` where the list is cut."""

    @property
    def cut(self) -> bool:
        """Whether older ones are left out."""
        return self.total > len(self.rows)


@dataclass(frozen=True, slots=True)
class Choice:
    """One position of the filter."""

    text: str
    value: Show
    count: int
    current: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """What is searched for, and which rows are wanted."""

    query: str
    show: Show
    choices: tuple[Choice, ...]


_BADGES = {
    Section.RUNNING: Badge("play", "Running", Tone.ACCENT),
    Section.INTERRUPTED: Badge("pause", "Interrupted", Tone.BAD),
    Section.PENDING: Badge("circle", "Pending", Tone.ACCENT),
    Section.APPLIED: Badge("check", "Applied", Tone.OK),
    Section.SKIPPED: Badge("skip", "Skipped", Tone.PLAIN),
}
_FAILED = Badge("cross", "Failed", Tone.BAD)
_UNUSABLE = Badge("cross", "Unusable", Tone.BAD)

_HEADINGS = {
    Section.RUNNING: ("Running", "Migrations that are under way"),
    Section.INTERRUPTED: ("Interrupted", "Migrations that were started and never finished"),
    Section.PENDING: ("Pending", "Pending migrations, newest first"),
    Section.APPLIED: ("Applied", "Applied migrations, newest first"),
    Section.SKIPPED: ("Not for this environment", "Migrations that this environment leaves out, newest first"),
}

_SHOWN = {
    Show.ALL: frozenset(Section),
    Show.PENDING: frozenset({Section.RUNNING, Section.INTERRUPTED, Section.PENDING}),
    Show.APPLIED: frozenset({Section.APPLIED}),
}


def row_of(status: MigrationStatus, overview: Overview, viewer: Viewer) -> Row:
    """Return one migration as a row."""
    section = _section(status, overview)
    return Row(
        label=_label(status),
        version=status.version,
        linked=has_page(status),
        section=section,
        badge=_badge(status, section, overview),
        description=_description(status),
        notes=tuple(_notes(status, overview)),
        error=last_error(status),
        at=_at(status, viewer),
        byline=_byline(status),
    )


def has_page(status: MigrationStatus) -> bool:
    """Whether a migration has a page of its own."""
    return status.migration is not None or bool(status.applied and status.applied.number is not None)


def problems_of(status: MigrationStatus, overview: Overview) -> list[Problem]:
    """Return what is wrong with the file of a migration."""
    if status.migration is None:
        return []
    return [problem for problem in overview.problems if problem.number == status.migration.number]


def header_of(status: MigrationStatus, overview: Overview) -> Header | None:
    """Return what a script declares, or None where that is not known: file gone, or unusable as it is."""
    if status.migration is None or problems_of(status, overview):
        return None
    return status.migration.header


def last_error(status: MigrationStatus) -> str:
    """Return what the last try said, as long as the migration did not get through afterwards."""
    if status.state not in (State.PENDING, State.INTERRUPTED):
        return ""
    return redact(status.last_error or "")


def matching(overview: Overview, query: str) -> list[MigrationStatus]:
    """Return those in which every word of `query` occurs: in version, name, description or remarks."""
    wanted = query.casefold().split()
    if not wanted:
        return list(overview.rows)
    return [status for status in overview.rows if all(word in _haystack(status, overview) for word in wanted)]


def filter_of(found: Sequence[MigrationStatus], overview: Overview, show: Show, query: str) -> Filter:
    """Return the filter as it stands, with how many rows each position would show."""
    sections = Counter(_section(status, overview) for status in found)
    choices = (
        Choice(s.value.capitalize(), s, sum(sections[section] for section in _SHOWN[s]), s is show) for s in Show
    )
    return Filter(query, show, tuple(choices))


def groups_of(
    found: Sequence[MigrationStatus], overview: Overview, viewer: Viewer, show: Show, *, limit: int | None
) -> Iterator[Group]:
    """Yield the groups that have rows, the newest migration first in each, and at most `limit` of them."""
    members = defaultdict(list)
    for status in reversed(found):
        members[_section(status, overview)].append(status)
    for section, (title, caption) in _HEADINGS.items():
        if members[section] and section in _SHOWN[show]:
            rows = tuple(row_of(status, overview, viewer) for status in members[section][:limit])
            yield Group(section.value, title, caption, rows, len(members[section]))


def _section(status: MigrationStatus, overview: Overview) -> Section:
    """A row `running` is what it says while somebody holds the lock; with a free lock its process has died."""
    if status.applied and status.applied.is_running and overview.lock_holder:
        return Section.RUNNING
    return Section(status.state.value)


def _badge(status: MigrationStatus, section: Section, overview: Overview) -> Badge:
    if section is not Section.PENDING:
        return _BADGES[section]
    if any(problem.blocking for problem in problems_of(status, overview)):
        return _UNUSABLE
    return _FAILED if last_error(status) else _BADGES[section]


def _notes(status: MigrationStatus, overview: Overview) -> Iterator[Note]:
    if status.missing:
        yield Note("file missing", "It was applied, and its file is gone.", Tone.WARN)
    if status.edited:
        yield Note("edited", "The file was changed after it was applied.", Tone.WARN)
    if status.out_of_order:
        yield Note("out of order", "A migration with a higher number was applied before.", Tone.WARN)
    header = header_of(status, overview)
    if header is None:
        return
    if not header.reversible:
        yield Note("no rollback", "It has no rollback part: a rollback stops here.")
    if not header.transactional:
        yield Note("no transaction", "It runs outside a transaction.")
    elif header.reversible and not header.rollback_transactional:
        yield Note("no transaction back", "Its rollback runs outside a transaction.")
    if header.environments is not None:
        yield Note("only " + ", ".join(sorted(header.environments)), "It is for these environments alone.")


def _at(status: MigrationStatus, viewer: Viewer) -> Moment | None:
    applied = status.applied
    return viewer.moment(applied.applied_at) if applied and applied.applied_at and _speaks_of_now(status) else None


def _byline(status: MigrationStatus) -> str:
    applied = status.applied
    if applied is None or not _speaks_of_now(status):
        return ""
    if applied.is_running:
        return f"started by {applied.applied_by}" if applied.applied_by else "started"
    return words.listed(
        applied.applied_by, words.duration(applied.duration_ms) if applied.duration_ms is not None else None
    )


def _speaks_of_now(status: MigrationStatus) -> bool:
    """Whether the row in the database tells the present: the time of a stale one would mislead."""
    return status.state in (State.APPLIED, State.INTERRUPTED)


def _label(status: MigrationStatus) -> str:
    return status.migration.label if status.migration else f"{status.version}_{status.name}"


def _description(status: MigrationStatus) -> str:
    return status.migration.header.description if status.migration and status.migration.header else ""


def _haystack(status: MigrationStatus, overview: Overview) -> str:
    notes = (note.text for note in _notes(status, overview))
    return " ".join((_label(status), _description(status), *notes)).casefold()
