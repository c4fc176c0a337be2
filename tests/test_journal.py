"""The journal on both databases: events in order, and the runs that are read back from them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext import journal as words
from cryoprotect.migrations_ext.dialects import Dialect, Write, dialect_for
from cryoprotect.migrations_ext.dialects.base import Place
from cryoprotect.migrations_ext.journal import Author, Journal, git_commit, text_checksum
from cryoprotect.migrations_ext.model import Direction, RunSummary, Source
from cryoprotect.migrations_ext.settings import Settings

from .conftest import Database

T = TypeVar("T")

ADA = Author(actor="Ada", source=Source.CLI, environment="staging", host="web01", pid=4711, git_commit="f" * 40)


@dataclass
class Desk:
    """A journal over one database, with its tables made."""

    database: Database
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.engine: sa.Engine = self.database.engine()
        self.dialect: Dialect = dialect_for(self.engine)
        self.journal = Journal(self.dialect, self.settings)
        with self.engine.connect() as connection:
            self.place: Place = self.dialect.place(connection, self.settings)

    def write(self, *writes: Write) -> None:
        stop = threading.Event()
        with self.dialect.lock(self.engine, self.settings, actor="x", on_wait=lambda _: None, stop=stop) as lock:
            lock.write(writes)

    def read(self, question: Callable[[sa.Connection, Place], T]) -> T:
        with self.engine.connect() as connection:
            return question(connection, self.place)

    def run(self, run_id: str, *events: tuple[str, dict[str, Any]], author: Author = ADA) -> None:
        """Write the events of one run, in order."""
        made = self.journal.event
        self.write(*(made(self.place, author, run_id, n, event, **facts) for n, (event, facts) in enumerate(events, 1)))

    def last_run(self, *, running: bool = False) -> RunSummary | None:
        with self.engine.connect() as connection:
            return self.journal.last_run(connection, self.place, running=running)


STARTED = (words.RUN_STARTED, {"direction": Direction.APPLY})


def done(version: str, direction: Direction = Direction.APPLY) -> tuple[str, dict[str, Any]]:
    return words.STEP_FINISHED, {"version": version, "direction": direction, "outcome": "applied"}


def failed(version: str, error: str = "boom") -> tuple[str, dict[str, Any]]:
    return words.STEP_FAILED, {"version": version, "direction": Direction.APPLY, "outcome": "failed", "error": error}


def finished(outcome: str, error: str | None = None) -> tuple[str, dict[str, Any]]:
    return words.RUN_FINISHED, {"direction": Direction.APPLY, "outcome": outcome, "error": error}


@pytest.fixture
def desk(database: Database) -> Desk:
    made = Desk(database)
    made.write(*made.journal.create(made.place))
    return made


class TestTables:
    def test_they_are_there_once_created(self, database: Database) -> None:
        desk = Desk(database)
        assert desk.read(desk.journal.exists) is False
        desk.write(*desk.journal.create(desk.place))
        assert desk.read(desk.journal.exists) is True
        assert database.tables() == {"migrations_journal", "migrations_texts"}

    def test_they_are_named_after_the_tracking_table(self, database: Database) -> None:
        desk = Desk(database, Settings(table="db_versions"))
        desk.write(*desk.journal.create(desk.place))
        assert database.tables() == {"db_versions_journal", "db_versions_texts"}

    def test_the_longest_name_of_a_table_fits(self, postgres_database: Database) -> None:
        desk = Desk(postgres_database, Settings.from_mapping({"DB_MIGRATE_TABLE": "x" * 45}))
        desk.write(*desk.journal.create(desk.place))
        assert desk.read(desk.journal.exists) is True
        assert postgres_database.tables() == {"x" * 45 + "_journal", "x" * 45 + "_texts"}

    def test_a_journal_further_down_the_search_path_is_not_ours(self, postgres_database: Database) -> None:
        elsewhere = Desk(postgres_database)
        elsewhere.write(*elsewhere.journal.create(elsewhere.place))
        postgres_database.execute("CREATE SCHEMA app")
        desk = Desk(postgres_database, Settings(schema="app"))
        assert desk.read(desk.journal.exists) is False


class TestEvents:
    def test_everything_about_an_event_is_stored(self, desk: Desk) -> None:
        before = datetime.now(UTC) - timedelta(minutes=5)
        desk.write(
            desk.journal.event(
                desk.place, ADA, "run1", 7, words.STEP_FAILED,
                version="003", direction=Direction.ROLLBACK, outcome="failed", statement=4, error="50% :x \n two lines",
                checksum="c" * 64, detail={"line": 12, "file": "a.sql"},
            )
        )  # fmt: skip
        ((_, *found, detail, at),) = desk.database.query("SELECT * FROM migrations_journal")
        assert found == [
            "run1", 7, "step_failed", "003", "rollback", "failed", 4, "50% :x \n two lines", "Ada", "web01", 4711,
            "cli", "staging", "f" * 40, "c" * 64,
        ]  # fmt: skip
        assert json.loads(detail) == {"line": 12, "file": "a.sql"}
        moment = desk.dialect.parse_time(at)
        assert moment is not None
        assert before < moment < datetime.now(UTC) + timedelta(minutes=5)

    def test_they_come_back_in_the_order_in_which_they_were_written(self, desk: Desk) -> None:
        desk.run("b", STARTED, done("001"))
        desk.run("a", STARTED, finished("succeeded"))
        events = desk.database.query("SELECT run_id, sequence, event FROM migrations_journal ORDER BY id")
        assert events == [
            ("b", 1, "run_started"),
            ("b", 2, "step_finished"),
            ("a", 1, "run_started"),
            ("a", 2, "run_finished"),
        ]

    def test_an_event_cannot_be_written_twice(self, desk: Desk) -> None:
        desk.run("a", STARTED)
        with pytest.raises(Exception, match=r"(?i)unique"):
            desk.run("a", STARTED)

    def test_odd_texts_are_kept_as_far_as_a_database_can(self, desk: Desk) -> None:
        """An error's text must never be the reason why a failure is not in the history."""
        error = "nul \0, half \udc80, 日本, 100%, 'quoted', back\\slash"
        author = Author(actor="x" * 300 + "\0", source=Source.API, environment="staging")
        desk.run("a", STARTED, failed("001", error), author=author)
        ((stored, actor),) = desk.database.query("SELECT error, actor FROM migrations_journal WHERE error IS NOT NULL")
        assert stored == "nul \ufffd, half ?, 日本, 100%, 'quoted', back\\slash"
        assert actor == "x" * 255


class TestLastRun:
    def test_nothing_ran_yet(self, desk: Desk) -> None:
        assert desk.last_run() is None
        desk.run("a", (words.ENVIRONMENT_SET, {}))
        assert desk.last_run() is None

    @pytest.mark.parametrize(("running", "outcome"), [(True, "running"), (False, "interrupted")])
    def test_without_an_end_the_lock_tells(self, desk: Desk, running: bool, outcome: str) -> None:
        desk.run("a", STARTED, done("001"))
        found = desk.last_run(running=running)
        assert found is not None
        assert (found.outcome, found.finished_at, found.steps_done) == (outcome, None, 1)

    @pytest.mark.parametrize("running", [True, False])
    def test_success(self, desk: Desk, running: bool) -> None:
        desk.run("a", (words.ENVIRONMENT_SET, {}), STARTED, done("001"), done("002"), finished("succeeded"))
        found = desk.last_run(running=running)
        assert found is not None
        assert found.started_at.utcoffset() == timedelta(0)
        assert found.finished_at is not None
        assert found.finished_at >= found.started_at
        assert found == RunSummary(
            run_id="a",
            direction=Direction.APPLY,
            outcome="succeeded",
            started_at=found.started_at,
            finished_at=found.finished_at,
            actor="Ada",
            source="cli",
            host="web01",
            pid=4711,
            steps_done=2,
            error=None,
            failed_version=None,
        )

    def test_failure(self, desk: Desk) -> None:
        desk.run("a", STARTED, done("001"), failed("002", "no such table"), finished("failed", "Migration 002 …"))
        found = desk.last_run()
        assert found is not None
        assert (found.outcome, found.steps_done) == ("failed", 1)
        assert (found.error, found.failed_version) == ("no such table", "002")

    def test_a_failure_outside_a_script_has_its_word_from_the_end(self, desk: Desk) -> None:
        desk.run("a", STARTED, finished("failed", "The migration lock was lost."))
        found = desk.last_run()
        assert found is not None
        assert (found.error, found.failed_version) == ("The migration lock was lost.", None)

    def test_the_newest_run_counts_alone(self, desk: Desk) -> None:
        desk.run("a", STARTED, failed("001"), finished("failed", "x"))
        desk.run("b", (words.RUN_STARTED, {"direction": Direction.ROLLBACK}), finished("succeeded"))
        found = desk.last_run()
        assert found is not None
        assert (found.run_id, found.direction, found.outcome) == ("b", Direction.ROLLBACK, "succeeded")
        assert found.error is None


class TestLastErrors:
    def test_what_failed_last_and_was_not_done_since(self, desk: Desk) -> None:
        desk.run("a", STARTED, done("001"), failed("002", "first try"), finished("failed"))
        desk.run("b", STARTED, failed("002", "second try"), finished("failed"))
        desk.run("c", STARTED, failed("003", "old trouble"), done("003"))
        assert desk.read(desk.journal.last_errors) == {"002": "second try"}

    def test_a_failed_rollback_is_an_error_of_that_migration_too(self, desk: Desk) -> None:
        desk.run("a", STARTED, done("001"), failed("001", "cannot drop"))
        assert desk.read(desk.journal.last_errors) == {"001": "cannot drop"}

    def test_a_healthy_history_has_none(self, desk: Desk) -> None:
        desk.run("a", STARTED, done("001"), finished("succeeded"))
        assert desk.read(desk.journal.last_errors) == {}


class TestEnvironment:
    def test_the_last_word_counts(self, desk: Desk) -> None:
        assert desk.read(desk.journal.environment) is None
        desk.run("a", (words.ENVIRONMENT_SET, {}))
        assert desk.read(desk.journal.environment) == "staging"
        other = Author(actor="Bob", source=Source.CLI, environment="production")
        desk.run("b", STARTED, author=other)
        assert desk.read(desk.journal.environment) == "staging"
        desk.run("c", (words.ENVIRONMENT_SET, {"detail": {"reason": "promoted"}}), author=other)
        assert desk.read(desk.journal.environment) == "production"


class TestTexts:
    def stored(self, desk: Desk) -> list[tuple[Any, ...]]:
        return desk.database.query("SELECT checksum, size, text FROM migrations_texts ORDER BY checksum")

    def test_each_text_is_kept_once(self, desk: Desk) -> None:
        text = "CREATE TABLE über (id int); -- 100% 'quoted'"
        desk.write(desk.journal.text(desk.place, "c1", text))
        desk.write(desk.journal.text(desk.place, "c1", text), desk.journal.text(desk.place, "c2", "x"))
        assert self.stored(desk) == [("c1", len(text.encode()), text), ("c2", 1, "x")]

    def test_above_one_mebibyte_only_the_size_is_kept(self, desk: Desk) -> None:
        limit = 1024 * 1024
        desk.write(
            desk.journal.text(desk.place, "a", "x" * limit),
            desk.journal.text(desk.place, "b", "x" * (limit + 1)),
            desk.journal.text(desk.place, "c", "ü" * (limit // 2 + 1)),  # bytes count, not characters
        )
        sizes = desk.database.query("SELECT checksum, size, length(text) FROM migrations_texts ORDER BY checksum")
        assert sizes == [("a", limit, limit), ("b", limit + 1, None), ("c", limit + 2, None)]

    def test_the_checksum_is_of_utf8(self) -> None:
        assert text_checksum("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert text_checksum("ü") == hashlib.sha256(b"\xc3\xbc").hexdigest()


class TestGitCommit:
    def git(self, folder: Path, *command: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        folder = tmp_path / "repository"
        (folder / "scripts" / "deep").mkdir(parents=True)
        self.git(folder, "init", "-q", "-b", "main")
        self.git(folder, "commit", "-q", "--allow-empty", "-m", "first")
        return folder

    def test_on_a_branch(self, repository: Path) -> None:
        head = self.git(repository, "rev-parse", "HEAD")
        assert git_commit(repository / "scripts" / "deep") == head
        self.git(repository, "pack-refs", "--all")
        assert git_commit(repository) == head

    def test_with_a_detached_head(self, repository: Path) -> None:
        self.git(repository, "checkout", "-q", "--detach")
        assert git_commit(repository) == self.git(repository, "rev-parse", "HEAD")

    def test_in_a_worktree(self, repository: Path, tmp_path: Path) -> None:
        self.git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
        self.git(tmp_path / "side", "commit", "-q", "--allow-empty", "-m", "second")
        head = self.git(tmp_path / "side", "rev-parse", "HEAD")
        assert git_commit(tmp_path / "side") == head != git_commit(repository)

    def test_before_the_first_commit(self, tmp_path: Path) -> None:
        self.git(tmp_path, "init", "-q")
        assert git_commit(tmp_path) is None

    def test_without_a_repository(self, tmp_path: Path) -> None:
        assert git_commit(tmp_path / "nowhere") is None

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"ref: ", b"ref: refs/heads/\0"])
    def test_a_broken_repository_stops_nothing(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "HEAD").write_bytes(content)
        assert git_commit(tmp_path) is None
