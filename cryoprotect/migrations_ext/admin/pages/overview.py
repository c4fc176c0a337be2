"""The first page: five questions answered before anybody scrolls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...model import LockHolder, MigrationStatus, Overview, RunSummary, State, Verdict
from ...redaction import redact
from . import words
from .elements import Badge, Fact, Notice, Shell, Tone, Viewer, problem_notice, warning
from .rows import Filter, Group, Row, Show, filter_of, groups_of, matching, row_of


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """The first page."""

    shell: Shell
    slug: str
    """The verdict: names the partial that the state has to itself."""
    badge: Badge
    sentence: str
    hint: str
    """What helps, where the sentence tells a trouble that has a cure."""
    command: str | None
    facts: tuple[Fact, ...]
    """Running, last run, history: how things stand."""
    subjects: tuple[Row, ...]
    """The migrations that the verdict is about, where it is about some in particular."""
    statement: str
    """What the run under way is doing, where the server tells."""
    notices: tuple[Notice, ...]
    filter: Filter
    groups: tuple[Group, ...]
    total: int
    place: tuple[Fact, ...]
    """Where everything is: database, folder, environment."""

    @property
    def title(self) -> str:
        """What the browser's tab says."""
        return self.badge.word


BADGES = {
    Verdict.UP_TO_DATE: Badge("check", "Up to date", Tone.OK),
    Verdict.PENDING: Badge("circle", "Pending", Tone.ACCENT),
    Verdict.RUNNING: Badge("play", "Running", Tone.ACCENT),
    Verdict.FAILED: Badge("cross", "Failed", Tone.BAD),
    Verdict.INTERRUPTED: Badge("pause", "Interrupted", Tone.BAD),
    Verdict.DISAGREE: Badge("warning", "Files and history disagree", Tone.WARN),
    Verdict.NOT_SET_UP: Badge("circle", "Not set up yet", Tone.ACCENT),
    Verdict.NO_MIGRATIONS: Badge("circle", "No migrations yet", Tone.PLAIN),
    Verdict.UNREACHABLE: Badge("unplugged", "Database unreachable", Tone.BAD),
}
_UNUSABLE = Badge("cross", "A script cannot be used", Tone.BAD)


def overview_page(
    overview: Overview, viewer: Viewer, *, show: Show = Show.ALL, query: str = "", limit: int | None = None
) -> OverviewPage:
    """Return the first page for what the folder and the database look like.

    It lists the rows that `show` and `query` let through, at most `limit` of each group.
    """
    found = matching(overview, query)
    return OverviewPage(
        shell=viewer.shell(overview, "db_migrate.overview"),
        slug=overview.verdict.value,
        badge=_badge(overview),
        sentence=redact(overview.sentence),
        hint=_hint(overview),
        command=overview.next_command,
        facts=tuple(_standing(overview, viewer)),
        subjects=tuple(row_of(s, overview, viewer) for s in overview.rows if _is_subject(s, overview)),
        statement=redact(overview.lock_holder.query or "") if overview.lock_holder else "",
        notices=tuple(_notices(overview)),
        filter=filter_of(found, overview, show, query),
        groups=tuple(groups_of(found, overview, viewer, show, limit=limit)),
        total=len(overview.rows),
        place=tuple(_place(overview)),
    )


def _badge(overview: Overview) -> Badge:
    unusable = any(problem.blocking for problem in overview.problems)
    return _UNUSABLE if unusable and overview.verdict is Verdict.DISAGREE else BADGES[overview.verdict]


def _hint(overview: Overview) -> str:
    if overview.verdict is Verdict.UNREACHABLE:  # nothing else was read: its warnings are the cure
        return redact(" ".join(overview.warnings))
    return next((redact(p.hint) for p in overview.problems if p.message == overview.sentence), "")


def _standing(overview: Overview, viewer: Viewer) -> Iterator[Fact]:
    if overview.verdict is Verdict.UNREACHABLE:
        for label in ("Running now", "Last run", "History"):
            yield Fact(label, "Not known", icon="skip")
        return
    yield _running(overview.lock_holder, viewer)
    yield _last_run(overview.last_run, viewer)
    yield _history(overview)
    unusable = sum(problem.blocking for problem in overview.problems)
    if unusable:
        yield Fact("Files", f"{unusable} cannot be used", Tone.BAD, "cross", detail="nothing runs before it is mended")


def _running(holder: LockHolder | None, viewer: Viewer) -> Fact:
    if holder is None:
        return Fact("Running now", "Nothing, the lock is free", Tone.OK, "check")
    process = f"process {holder.pid if holder.pid is not None else '?'}"
    where = f"{process} on {holder.host}" if holder.host else process
    at = viewer.moment(holder.since) if holder.since else None
    detail = words.listed(f"since {at.text}" if at else None, where if holder.actor else None)
    return Fact("Running now", holder.actor or where, Tone.ACCENT, "play", at=at, detail=detail)


_RUNS = {
    "succeeded": ("succeeded", Tone.OK, "check"),
    "failed": ("failed", Tone.BAD, "cross"),
    "cancelled": ("was stopped", Tone.WARN, "pause"),
    "running": ("is running", Tone.ACCENT, "play"),
    "interrupted": ("was interrupted", Tone.BAD, "pause"),
}


def _last_run(run: RunSummary | None, viewer: Viewer) -> Fact:
    if run is None:
        return Fact("Last run", "None recorded", icon="skip")
    word, tone, icon = _RUNS.get(run.outcome, (run.outcome, Tone.PLAIN, "circle"))
    took = None
    if run.finished_at is not None:
        took = words.duration(round((run.finished_at - run.started_at).total_seconds() * 1000))
    return Fact(
        "Last run",
        f"{run.direction.value.capitalize()} {word}",
        tone,
        icon,
        at=viewer.moment(run.finished_at or run.started_at),
        detail=words.listed(
            words.count(run.steps_done, "migration") if run.steps_done else None, took, f"{run.actor} ({run.source})"
        ),
    )


def _history(overview: Overview) -> Fact:
    rows = overview.rows
    faults = (
        (sum(s.edited for s in rows), "edited"),
        (sum(s.missing for s in rows), "missing"),
        (sum(s.out_of_order for s in rows), "out of order"),
    )
    told = ", ".join(f"{number} {word}" for number, word in faults if number)
    if told:
        return Fact("History", told, Tone.WARN, "warning", detail="files and history disagree")
    if not any(s.state is State.APPLIED for s in rows):
        return Fact("History", "None yet", icon="skip")
    return Fact("History", "Intact", Tone.OK, "check", detail="every applied file is as it was")


def _is_subject(status: MigrationStatus, overview: Overview) -> bool:
    if overview.verdict is Verdict.FAILED:
        return overview.last_run is not None and status.version == overview.last_run.failed_version
    if overview.verdict is Verdict.INTERRUPTED:
        return status.state is State.INTERRUPTED
    if overview.verdict is Verdict.DISAGREE:
        return status.edited or status.missing or status.out_of_order
    return False


def _notices(overview: Overview) -> Iterator[Notice]:
    """What is wrong beside the verdict: what its sentence and hint say is not said again."""
    for problem in sorted(overview.problems, key=lambda p: not p.blocking):
        if problem.message != overview.sentence:
            yield problem_notice(problem)
    if overview.verdict is not Verdict.UNREACHABLE:
        for text in overview.warnings:
            yield warning(redact(text))


def _place(overview: Overview) -> Iterator[Fact]:
    yield Fact("Database", overview.database, code=True)
    yield Fact("Scripts", str(overview.directory), code=True)
    remembered = overview.remembered_environment
    if remembered in (None, overview.environment):
        yield Fact("Environment", overview.environment)
    else:
        told = f"the database was set up for {remembered}"
        yield Fact("Environment", overview.environment, Tone.WARN, "warning", detail=told)
