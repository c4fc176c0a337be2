"""The page of one migration: what is known of it, and its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...errors import MigrationError
from ...model import Header, Kind, Migration, MigrationStatus, Overview, Problem, State
from ..highlight import Source
from .elements import Badge, Fact, Notice, Shell, Tone, Viewer, fault, problem_notice, warning
from .rows import Row, has_page, header_of, last_error, problems_of, row_of


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a script, with its text."""

    slug: str
    """The anchor: line 7 of the apply part is `#apply-7`."""
    title: str
    file: str
    source: Source

    @property
    def hidden(self) -> str:
        """What was left out of a very long text."""
        return f"{self.source.hidden:,} more characters are not shown." if self.source.hidden else ""


@dataclass(frozen=True, slots=True)
class MigrationPage:
    """The page of one migration."""

    shell: Shell
    label: str
    badge: Badge
    description: str
    notices: tuple[Notice, ...]
    facts: tuple[Fact, ...]
    parts: tuple[Part, ...]
    earlier: Row | None
    later: Row | None

    @property
    def title(self) -> str:
        """What the browser's tab says."""
        return self.label


def migration_page(
    overview: Overview, version: str, viewer: Viewer, *, read: Callable[[Migration], Sequence[Part]]
) -> MigrationPage | None:
    """Return the page of one migration, or None where neither the folder nor the history knows `version`.

    `read` gives the parts of its text; a `MigrationError` that it raises is told on the page.
    """
    order = [status for status in overview.rows if has_page(status)]
    place = next((i for i, status in enumerate(order) if status.version == version), None)
    if place is None:
        return None
    status = order[place]
    row = row_of(status, overview, viewer)
    notices = list(_notices(status, overview))
    parts: tuple[Part, ...] = ()
    if status.migration is not None:
        try:
            parts = tuple(read(status.migration))
        except MigrationError as error:
            problem = Problem((error.file,) if error.file else (), error.message, error.hint or "", error.line)
            notices += [problem_notice(problem)] if not problems_of(status, overview) else []
    return MigrationPage(
        shell=viewer.shell(overview, "db_migrate.migration"),
        label=row.label,
        badge=row.badge,
        description=row.description,
        notices=tuple(notices),
        facts=tuple(_facts(status, overview, row)),
        parts=parts,
        earlier=row_of(order[place - 1], overview, viewer) if place else None,
        later=row_of(order[place + 1], overview, viewer) if place + 1 < len(order) else None,
    )


def _notices(status: MigrationStatus, overview: Overview) -> Iterator[Notice]:
    for problem in problems_of(status, overview):
        yield problem_notice(problem)
    if status.missing:
        yield warning(
            "The file of this migration is gone.",
            "Bring it back from version control: without it nothing can be rolled back past this point.",
        )
    if status.edited:
        yield warning(
            "The file was changed after it was applied: what you see below is not what ran.",
            "Put the file back as it was, and write the change as a new migration.",
        )
    if status.out_of_order:
        yield warning(
            "It is pending although a migration with a higher number was applied.",
            "Give it a number above the last applied one, or apply it knowing that others ran first.",
        )
    if status.state is State.SKIPPED:
        yield Notice(Tone.PLAIN, "skip", f"It is not for {overview.environment} and will not run here.")
    if last_error(status):
        yield fault(f"The last try failed: {last_error(status)}")


def _facts(status: MigrationStatus, overview: Overview, row: Row) -> Iterator[Fact]:
    applied = status.applied if status.state is State.APPLIED else None
    if applied and row.at:
        yield Fact("Applied", row.at.text, at=row.at, detail=row.byline)
    if applied and applied.environment:
        yield Fact("Applied in", applied.environment)
    if status.migration is not None:
        yield Fact("Written in", "Python" if status.migration.kind is Kind.PYTHON else "SQL")
    header = header_of(status, overview)
    if header is not None:
        yield from _declared(header)
    if status.edited and applied and applied.checksum:
        yield Fact("Checksum when applied", applied.checksum, code=True)


def _declared(header: Header) -> Iterator[Fact]:
    only = header.environments
    yield Fact("For", ", ".join(sorted(only)) if only is not None else "all environments")
    yield Fact("Transaction", _transaction(header))
    yield Fact("Rollback", "yes" if header.reversible else "none, a rollback stops here")
    yield Fact("Checksum", header.checksum, code=True)


def _transaction(header: Header) -> str:
    if header.transactional == header.rollback_transactional or not header.reversible:
        return "one for the whole script" if header.transactional else "none"
    return "for apply, none for rollback" if header.transactional else "for rollback, none for apply"
