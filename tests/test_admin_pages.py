"""What the pages say, from the same Overview that the command line prints."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cryoprotect.migrations_ext.admin import pages
from cryoprotect.migrations_ext.admin.access import Peer
from cryoprotect.migrations_ext.admin.highlight import highlight
from cryoprotect.migrations_ext.admin.pages import words
from cryoprotect.migrations_ext.admin.pages.elements import Tone, Viewer
from cryoprotect.migrations_ext.admin.pages.overview import BADGES
from cryoprotect.migrations_ext.errors import ScriptError
from cryoprotect.migrations_ext.model import (
    AppliedMigration,
    Direction,
    Header,
    Kind,
    LockHolder,
    Migration,
    MigrationStatus,
    Overview,
    Problem,
    RunSummary,
    State,
    Verdict,
)

NOW = datetime(2026, 11, 22, 14, 3, 10, tzinfo=UTC)
VIEWER = Viewer(app="host", actor="alice", now=NOW)
FOLDER = Path("/srv/app/migration_scripts")


def status(number: int, state: State = State.PENDING, *, name: str = "thing", **facts: Any) -> MigrationStatus:
    version = f"{number:03d}"
    header = Header("c" * 64, None, facts.pop("reversible", True), **facts.pop("header", {}))
    migration = Migration(version, number, name, Kind.SQL, FOLDER / f"{version}_{name}.sql", header=header)
    applied = None
    if state in (State.APPLIED, State.INTERRUPTED):
        word = "applied" if state is State.APPLIED else "running"
        at = NOW - timedelta(days=3)
        applied = AppliedMigration(number, version, number, name, word, at, "c" * 64, "development", 843, "bob")
    return MigrationStatus(version, name, state, migration, applied, **facts)


def overview(verdict: Verdict = Verdict.PENDING, *rows: MigrationStatus, **facts: Any) -> Overview:
    base = Overview(
        verdict, "A sentence.", "flask db-migrate apply", "development", None, "postgresql://db01/cryo", FOLDER, rows
    )
    return replace(base, **facts)


def run(outcome: str = "succeeded", **facts: Any) -> RunSummary:
    started = NOW - timedelta(hours=2, seconds=1.2)
    base = RunSummary(
        "r41", Direction.APPLY, outcome, started, NOW - timedelta(hours=2), "alice", "cli", "web1", 4711, steps_done=2
    )
    return replace(base, **facts)


def fact(page: pages.OverviewPage, label: str) -> Any:
    return next(f for f in page.facts if f.label == label)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_icon_word_colour_and_a_partial(verdict: Verdict) -> None:
    page = pages.overview_page(overview(verdict), VIEWER)
    assert page.badge is BADGES[verdict]
    assert page.badge.icon
    assert page.badge.word
    partials = Path(pages.__file__).parent.parent / "templates" / "db_migrate" / "states"
    assert (partials / f"{page.slug}.html").is_file()


def test_pending_first_then_applied_newest_first() -> None:
    rows = (status(1, State.APPLIED), status(2, State.APPLIED), status(3), status(4), status(5, State.SKIPPED))
    page = pages.overview_page(overview(Verdict.PENDING, *rows), VIEWER)
    assert [(g.slug, [r.version for r in g.rows]) for g in page.groups] == [
        ("pending", ["004", "003"]),
        ("applied", ["002", "001"]),
        ("skipped", ["005"]),
    ]


def test_filter_by_state_and_words() -> None:
    rows = (
        status(1, State.APPLIED, name="orders"),
        status(2, name="order_index", header={"description": "Faster lists"}),
        status(3, name="other", header={"transactional": False}),
    )
    there = overview(Verdict.PENDING, *rows)

    def shown(**wanted: Any) -> list[str]:
        page = pages.overview_page(there, VIEWER, **wanted)
        return [row.version for group in page.groups for row in group.rows]

    assert shown() == ["003", "002", "001"]
    assert shown(show=pages.Show.PENDING) == ["003", "002"]
    assert shown(show=pages.Show.APPLIED) == ["001"]
    assert shown(query="ORDER") == ["002", "001"]
    assert shown(query="order faster") == ["002"]
    assert shown(query="no transaction") == ["003"]
    assert shown(query="nothing like it") == []
    counts = pages.overview_page(there, VIEWER, query="order").filter.choices
    assert [(c.value.value, c.count) for c in counts] == [("all", 2), ("pending", 1), ("applied", 1)]


def test_a_long_list_is_cut_and_says_how_long_it_is() -> None:
    rows = tuple(status(n, State.APPLIED) for n in range(1, 101))
    [group] = pages.overview_page(overview(Verdict.UP_TO_DATE, *rows), VIEWER, limit=10).groups
    assert (len(group.rows), group.total, group.cut) == (10, 100, True)
    assert group.rows[0].version == "100"


def test_running_says_who_since_when_and_what() -> None:
    holder = LockHolder(4711, "web1", NOW - timedelta(seconds=83), "bob", "CREATE INDEX x")
    page = pages.overview_page(
        overview(Verdict.RUNNING, status(1, State.INTERRUPTED), lock_holder=holder, last_run=run("running")), VIEWER
    )
    running = fact(page, "Running now")
    assert running.text == "bob"
    assert running.at.ago == "1 minute ago"
    assert running.detail == "since 2026-11-22 14:01:47 UTC · process 4711 on web1"
    assert page.statement == "CREATE INDEX x"
    assert [(g.slug, g.rows[0].badge.word, g.rows[0].byline) for g in page.groups] == [
        ("running", "Running", "started by bob")
    ]


def test_without_a_lock_a_running_row_was_interrupted() -> None:
    page = pages.overview_page(overview(Verdict.INTERRUPTED, status(1, State.INTERRUPTED)), VIEWER)
    assert [g.slug for g in page.groups] == ["interrupted"]
    assert [row.version for row in page.subjects] == ["001"]
    assert fact(page, "Running now").text == "Nothing, the lock is free"


def test_a_failed_migration_is_named_with_its_error() -> None:
    rows = (status(1, State.APPLIED), status(2, last_error="column does not exist"), status(3))
    there = overview(Verdict.FAILED, *rows, last_run=run("failed", failed_version="002", steps_done=1))
    page = pages.overview_page(there, VIEWER)
    assert [row.version for row in page.subjects] == ["002"]
    failed = page.groups[0].rows[1]
    assert (failed.badge.word, failed.badge.tone, failed.error) == ("Failed", Tone.BAD, "column does not exist")
    last = fact(page, "Last run")
    assert (last.text, last.tone) == ("Apply failed", Tone.BAD)
    assert last.detail == "1 migration · 1.2 s · alice (cli)"


def test_an_error_of_the_past_is_past() -> None:
    [group] = pages.overview_page(
        overview(Verdict.UP_TO_DATE, status(1, State.APPLIED, last_error="once upon a time")), VIEWER
    ).groups
    assert group.rows[0].error == ""


def test_disagreement_is_counted_and_named() -> None:
    rows = (
        status(1, State.APPLIED, edited=True),
        replace(status(2, State.APPLIED), migration=None),
        status(3, out_of_order=True),
        status(4, State.APPLIED),
    )
    clash = Problem((FOLDER / "009_a.sql", FOLDER / "9_b.sql"), "Two files have the number 9.", "Rename one.", line=3)
    page = pages.overview_page(overview(Verdict.DISAGREE, *rows, problems=(clash,), warnings=("Mind.",)), VIEWER)
    assert fact(page, "History").text == "1 edited, 1 missing, 1 out of order"
    assert fact(page, "Files").text == "1 cannot be used"
    assert page.badge.word == "A script cannot be used"
    assert [row.version for row in page.subjects] == ["001", "002", "003"]
    assert [(n.where, n.text) for n in page.notices] == [
        ("009_a.sql, 9_b.sql, line 3", "Two files have the number 9."),
        ("", "Mind."),
    ]


def test_what_the_verdict_says_is_not_said_again() -> None:
    clash = Problem((FOLDER / "9_b.sql",), "Two files have the number 9.", "Rename one.", number=9)
    there = overview(Verdict.DISAGREE, status(9), sentence=clash.message, problems=(clash,), warnings=("Mind.",))
    page = pages.overview_page(there, VIEWER)
    assert (page.sentence, page.hint) == ("Two files have the number 9.", "Rename one.")
    assert [n.text for n in page.notices] == ["Mind."]
    assert page.groups[0].rows[0].badge.word == "Unusable"


def test_unreachable_claims_nothing_and_tells_the_cure() -> None:
    page = pages.overview_page(overview(Verdict.UNREACHABLE, warnings=("Start the server.",)), VIEWER)
    assert (page.hint, page.notices) == ("Start the server.", ())
    assert {f.text for f in page.facts} == {"Not known"}


def test_production_is_marked() -> None:
    assert pages.overview_page(overview(environment="production"), VIEWER).shell.production
    assert not pages.overview_page(overview(environment="staging"), VIEWER).shell.production


def test_another_remembered_environment_is_told() -> None:
    page = pages.overview_page(overview(remembered_environment="staging"), VIEWER)
    assert page.place[-1].detail == "the database was set up for staging"


def test_secrets_in_sentences_are_masked() -> None:
    secret = "could not connect to postgresql://bob:canary-word@db01/cryo"
    there = overview(
        Verdict.FAILED, status(1, last_error=secret), sentence=secret, warnings=(secret,),
        lock_holder=LockHolder(1, "h", None, query=secret), problems=(Problem((), secret, secret),),
    )  # fmt: skip
    assert "canary-word" not in repr(pages.overview_page(there, VIEWER))


def test_a_version_that_nobody_knows_has_no_page() -> None:
    there = overview(Verdict.PENDING, status(1))
    for version in ("1", "2", "", "../001", "001_thing", "001.sql"):
        assert pages.migration_page(there, version, VIEWER, read=lambda _: []) is None


def test_a_migration_knows_its_neighbours_and_facts() -> None:
    there = overview(Verdict.PENDING, *(status(n, State.APPLIED) for n in (1, 2, 3)))
    page = pages.migration_page(
        there, "002", VIEWER, read=lambda _: [pages.Part("apply", "Apply", "f", highlight("x", Kind.SQL))]
    )
    assert page is not None
    assert page.earlier is not None
    assert page.later is not None
    assert (page.earlier.version, page.later.version) == ("001", "003")
    facts = {f.label: f.text for f in page.facts}
    assert facts["Applied"] == "2026-11-19 14:03:10 UTC"
    assert facts["For"] == "all environments"
    assert facts["Checksum"] == "c" * 64


def test_a_text_that_cannot_be_read_is_told_on_its_page() -> None:
    def read(_: Migration) -> list[pages.Part]:
        raise ScriptError("It is not UTF-8.", hint="Save it as UTF-8.", file=FOLDER / "001_thing.sql", line=7)

    page = pages.migration_page(overview(Verdict.PENDING, status(1)), "001", VIEWER, read=read)
    assert page is not None
    assert page.parts == ()
    assert [(n.where, n.text, n.hint) for n in page.notices] == [
        ("001_thing.sql, line 7", "It is not UTF-8.", "Save it as UTF-8.")
    ]


def test_a_missing_file_has_a_page_without_a_text() -> None:
    gone = replace(status(1, State.APPLIED), migration=None)
    page = pages.migration_page(overview(Verdict.DISAGREE, gone), "001", VIEWER, read=lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    assert page is not None
    assert "gone" in page.notices[0].text


def test_a_row_of_somebody_else_is_listed_and_has_no_page() -> None:
    row = AppliedMigration(1, "../../etc", None, "<b>", "applied", None)
    there = overview(Verdict.DISAGREE, MigrationStatus("../../etc", "<b>", State.APPLIED, None, row))
    [group] = pages.overview_page(there, VIEWER).groups
    assert not group.rows[0].linked
    assert pages.migration_page(there, "../../etc", VIEWER, read=lambda _: []) is None


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (Peer("127.0.0.1", "localhost", forwarded=True), "came through a proxy"),
        (Peer("192.168.1.7", "localhost", forwarded=False), "came from 192.168.1.7"),
        (Peer("127.0.0.1", "evil.example", forwarded=False), "sent to evil.example"),
    ],
)
def test_a_closed_door_tells_a_developer_why(peer: Peer, reason: str) -> None:
    page = pages.closed(peer)
    assert reason in page.text
    assert len(page.code) == 2


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (3449, "3.4 s"),
        (59_949, "59.9 s"),
        (59_950, "1 min 0 s"),
        (125_000, "2 min 5 s"),
        (3_599_600, "1 h 0 min"),
        (3_720_000, "1 h 2 min"),
    ],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert words.duration(milliseconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-30, "just now"),
        (4, "just now"),
        (5, "5 seconds ago"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (3 * 86_400, "3 days ago"),
    ],
)
def test_how_long_ago(seconds: int, text: str) -> None:
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://db01/cryo", "db01/cryo"),
        ("postgresql://db01:5433/cryo", "db01/cryo"),
        ("postgresql:///cryo", "cryo"),
        ("sqlite:////home/alice/instance/cryo.sqlite", "cryo.sqlite"),
        ("sqlite:///", ":memory:"),
        ("no url at all", "no url at all"),
    ],
)
def test_short_names_of_databases(url: str, text: str) -> None:
    assert words.short_database(url) == text
