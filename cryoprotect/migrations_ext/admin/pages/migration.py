"""The page of one migration: what is known of it, and its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...errors import MigrationError
from ...model import Kind, Migration, MigrationStatus, Overview, State
from ...redaction import redact
from ..highlight import Source
from .elements import Badge, Fact, Notice, Shell, Tone, Viewer, fault, warning
from .rows import Row, has_page, last_error, row_of


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
    parts, trouble = _parts(status, read)
    return MigrationPage(
        shell=viewer.shell(overview, "db_migrate.migration"),
        label=row.label,
        badge=row.badge,
        description=row.description,
        notices=(*_notices(status, overview.environment), *trouble),
        facts=tuple(_facts(status, row)),
        parts=parts,
        earlier=row_of(order[place - 1], overview, viewer) if place else None,
        later=row_of(order[place + 1], overview, viewer) if place + 1 < len(order) else None,
    )


def _parts(
    status: MigrationStatus, read: Callable[[Migration], Sequence[Part]]
) -> tuple[tuple[Part, ...], tuple[Notice, ...]]:
    if status.migration is None:
        return (), ()
    try:
        return tuple(read(status.migration)), ()
    except MigrationError as error:
        where = error.file.name if error.file and error.file.name not in error.message else ""
        if where and error.line is not None:
            where += f", line {error.line}"
        return (), (fault(redact(error.message), redact(error.hint or ""), where=where),)


def _notices(status: MigrationStatus, environment: str) -> Iterator[Notice]:
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
        yield Notice(Tone.PLAIN, "skip", f"It is not for {environment} and will not run here.")
    if last_error(status):
        yield fault(f"The last try failed: {last_error(status)}")


def _facts(status: MigrationStatus, row: Row) -> Iterator[Fact]:
    applied = status.applied if status.state is State.APPLIED else None
    if applied and row.at:
        yield Fact("Applied", row.at.text, at=row.at, detail=row.byline)
    if applied and applied.environment:
        yield Fact("Applied in", applied.environment)
    if status.migration is not None:
        yield from _file_facts(status.migration)
    if status.edited and applied and applied.checksum:
        yield Fact("Checksum when applied", applied.checksum, code=True)


def _file_facts(migration: Migration) -> Iterator[Fact]:
    yield Fact("Written in", "Python" if migration.kind is Kind.PYTHON else "SQL")
    header = migration.header
    if header is None:
        return
    only = header.environments
    yield Fact("For", ", ".join(sorted(only)) if only is not None else "all environments")
    yield Fact("Transaction", "one for the whole script" if header.transactional else "none")
    yield Fact("Rollback", "yes" if header.reversible else "none, a rollback stops here")
    yield Fact("Checksum", header.checksum, code=True)
