"""The tracking table on both databases: what is read, what is refused, and what is written."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext.dialects import Dialect, Write, dialect_for
from cryoprotect.migrations_ext.dialects.base import HistoryChangedError, Place
from cryoprotect.migrations_ext.errors import ConfigurationError, ForeignTableError
from cryoprotect.migrations_ext.model import AppliedMigration, Header, Kind, Migration
from cryoprotect.migrations_ext.settings import Settings
from cryoprotect.migrations_ext.tracker import ORIGINAL_COLUMNS, OWN_COLUMNS, History, RowFacts, Tracker

from .conftest import Database

FACTS = RowFacts(environment="staging", actor="Ada", duration_ms=12)


def migration(version: str, name: str = "first", checksum: str = "c" * 64) -> Migration:
    header = Header(checksum, None, reversible=True)
    return Migration(version, int(version), name, Kind.SQL, Path(f"/x/{version}_{name}.sql"), header=header)


@dataclass
class Desk:
    """A tracker over one database, and a lock to write with."""

    database: Database
    settings: Settings
    engine: sa.Engine
    dialect: Dialect
    tracker: Tracker

    def read(self) -> History:
        with self.engine.connect() as connection:
            return self.tracker.read(connection)

    def place(self) -> Place:
        with self.engine.connect() as connection:
            return self.dialect.place(connection, self.settings)

    def write(self, *writes: Write) -> None:
        stop = threading.Event()
        with self.dialect.lock(self.engine, self.settings, actor="x", on_wait=lambda _: None, stop=stop) as lock:
            lock.write(writes)

    def create(self) -> None:
        self.write(*self.tracker.create(self.place(), self.read()))

    def record(self, *versions: str) -> None:
        place = self.place()
        self.write(*(self.tracker.record(place, migration(v), FACTS) for v in versions))


@pytest.fixture
def desk_for() -> Iterator[Callable[..., Desk]]:
    engines: list[sa.Engine] = []

    def make(database: Database, engine: sa.Engine | None = None, **settings: Any) -> Desk:
        found = Settings.from_mapping({f"DB_MIGRATE_{k.upper()}": v for k, v in settings.items()})
        used = engine or database.engine()
        engines.append(used)
        dialect = dialect_for(used)
        return Desk(database, found, used, dialect, Tracker(dialect, found))

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def desk(database: Database, desk_for: Callable[..., Desk]) -> Desk:
    return desk_for(database)


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[str]]:
    """What reaches the database meanwhile."""
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        seen.append(text)

    sa.event.listen(engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", note)


ORIGINAL = {
    "sqlite": (
        "CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, version VARCHAR(50) NOT NULL,"
        " name VARCHAR(255) NOT NULL, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,"
        " status VARCHAR(50) DEFAULT 'applied')"
    ),
    "postgresql": (
        "CREATE TABLE migrations (id SERIAL PRIMARY KEY, version VARCHAR(50) NOT NULL, name VARCHAR(255) NOT NULL,"
        " applied_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(), status VARCHAR(50) DEFAULT 'applied')"
    ),
}


def make_original(database: Database) -> None:
    """The table as the original design makes it, with two rows."""
    database.execute(ORIGINAL[database.kind])
    database.execute("CREATE UNIQUE INDEX migrations_version_idx ON migrations(version)")
    database.execute(
        "INSERT INTO migrations (version, name, applied_at) VALUES ('001', 'initial', '2024-02-29 12:30:00+00:00')"
    )
    database.execute("INSERT INTO migrations (version, name, status) VALUES ('002', 'second', 'failed')")


def columns(database: Database, table: str = "migrations") -> list[str]:
    return [c["name"] for c in sa.inspect(database.engine()).get_columns(table)]


class TestReading:
    def test_an_absent_table_is_an_empty_history_and_nothing_is_written(self, desk: Desk) -> None:
        assert desk.read() == History(rows=(), exists=False, widened=False)
        assert desk.database.tables() == set()

    def test_a_new_table_is_empty_and_there(self, desk: Desk) -> None:
        desk.create()
        assert desk.read() == History(rows=(), exists=True, widened=True)

    def test_the_connection_can_be_used_afterwards(self, desk: Desk) -> None:
        with desk.engine.connect() as connection:
            desk.tracker.read(connection)
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1

    def test_it_takes_one_query(self, desk: Desk) -> None:
        desk.create()
        desk.record("001", "002")
        with statements(desk.engine) as seen:
            assert len(desk.read().rows) == 2
        assert len(seen) == 1

    def test_a_row_says_everything_that_was_written(self, desk: Desk) -> None:
        before = datetime.now(UTC) - timedelta(minutes=5)
        desk.create()
        desk.record("001")
        (row,) = desk.read().rows
        assert row.applied_at is not None
        assert row.applied_at.utcoffset() == timedelta(0)
        assert before < row.applied_at < datetime.now(UTC) + timedelta(minutes=5)
        assert row == AppliedMigration(
            id=1,
            version="001",
            number=1,
            name="first",
            status="applied",
            applied_at=row.applied_at,
            checksum="c" * 64,
            environment="staging",
            duration_ms=12,
            applied_by="Ada",
        )

    def test_rows_come_in_the_order_in_which_they_were_written(self, desk: Desk) -> None:
        desk.create()
        desk.record("003", "001", "002")
        assert [r.version for r in desk.read().rows] == ["003", "001", "002"]
        assert [r.id for r in desk.read().rows] == [1, 2, 3]

    def test_a_version_is_a_number_or_nobodys_business(self, desk: Desk) -> None:
        expected = {"007": 7, "20251103": 20251103, "abc": None, "1.2": None, "٣": None, "": None}
        desk.create()
        desk.write(*(desk.tracker.record_by_hand(desk.place(), v, "by hand", "applied") for v in expected))
        assert {r.version: r.number for r in desk.read().rows} == expected

    def test_a_status_that_is_null_is_not_applied(self, desk: Desk) -> None:
        make_original(desk.database)
        desk.database.execute("UPDATE migrations SET status = NULL")
        assert [r.is_applied for r in desk.read().rows] == [False, False]

    def test_another_table_name(self, database: Database, desk_for: Callable[..., Desk]) -> None:
        database.execute("CREATE TABLE migrations (id integer, migration text, batch integer)")  # Laravel's
        desk = desk_for(database, table="db_migrations")
        desk.create()
        desk.record("001")
        assert [r.version for r in desk.read().rows] == ["001"]
        assert database.query("SELECT count(*) FROM migrations") == [(0,)]


class TestOriginalTable:
    """A table that the original design made is read as it is, and widened at the first write."""

    def test_it_is_read_unwidened(self, desk: Desk) -> None:
        make_original(desk.database)
        history = desk.read()
        assert (history.exists, history.widened) == (True, False)
        assert [(r.version, r.name, r.status, r.checksum) for r in history.rows] == [
            ("001", "initial", "applied", None),
            ("002", "second", "failed", None),
        ]
        assert history.rows[0].applied_at == datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
        assert columns(desk.database) == list(ORIGINAL_COLUMNS)

    def test_create_widens_it_and_keeps_its_rows(self, desk: Desk) -> None:
        make_original(desk.database)
        before = desk.read()
        desk.create()
        after = desk.read()
        assert after.widened
        assert after.rows == before.rows
        assert columns(desk.database) == [*ORIGINAL_COLUMNS, *OWN_COLUMNS]

    def test_afterwards_there_is_nothing_to_create(self, desk: Desk) -> None:
        make_original(desk.database)
        desk.create()
        assert desk.tracker.create(desk.place(), desk.read()) == []

    def test_a_table_of_ours_has_its_columns_in_its_order_and_its_index(self, desk: Desk) -> None:
        desk.create()
        assert columns(desk.database) == [*ORIGINAL_COLUMNS, *OWN_COLUMNS]
        (index,) = sa.inspect(desk.engine).get_indexes("migrations")
        assert (index["name"], index["unique"], index["column_names"]) == ("migrations_version_idx", 1, ["version"])

    def test_a_wider_table_of_ours_is_still_ours(self, desk: Desk) -> None:
        desk.create()
        desk.record("001")
        desk.database.execute("ALTER TABLE migrations ADD COLUMN ticket varchar(20)")
        assert [r.version for r in desk.read().rows] == ["001"]


class TestForeignTable:
    FOREIGN = (
        "CREATE TABLE migrations (id integer, migration text, batch integer)",
        "CREATE TABLE migrations (version text, name text)",
        "CREATE TABLE migrations (id integer, version text, name text, applied_at text, status text, extra text)",
        "CREATE VIEW migrations AS SELECT 1 AS id, 'x' AS label",
    )

    @pytest.mark.parametrize("definition", FOREIGN)
    def test_it_is_refused_with_the_cure(self, desk: Desk, definition: str) -> None:
        desk.database.execute(definition)
        with pytest.raises(ForeignTableError) as caught:
            desk.read()
        assert "'migrations' that is not ours" in caught.value.message
        assert caught.value.hint is not None
        assert "DB_MIGRATE_TABLE" in caught.value.hint
        assert caught.value.exit_code == 2

    def test_its_rows_do_not_matter(self, desk: Desk) -> None:
        desk.database.execute(self.FOREIGN[0])
        desk.database.execute("INSERT INTO migrations VALUES (1, '2014_10_12_000000_create_users_table', 1)")
        with pytest.raises(ForeignTableError):
            desk.read()

    def test_a_view_with_our_columns_is_read(self, desk: Desk) -> None:
        """Whoever moved the table and left a view behind sees the history, and finds out at the first write."""
        make_original(desk.database)
        desk.database.execute("ALTER TABLE migrations RENAME TO old_migrations")
        desk.database.execute("CREATE VIEW migrations AS SELECT * FROM old_migrations")
        assert [r.version for r in desk.read().rows] == ["001", "002"]


class TestSearchPath:
    """PostgreSQL finds an unqualified name anywhere on the search_path; only the first schema is where we write."""

    @pytest.fixture
    def desk(self, postgres_database: Database, desk_for: Callable[..., Desk]) -> Desk:
        postgres_database.execute("CREATE SCHEMA app")
        engine = sa.create_engine(
            postgres_database.url,
            poolclass=sa.NullPool,
            connect_args={"options": "-c search_path=app,public"},
        )
        return desk_for(postgres_database, engine)

    def test_a_table_of_ours_further_down_is_another_history(self, desk: Desk) -> None:
        make_original(desk.database)  # in public
        assert desk.read() == History()

    def test_even_an_empty_one(self, desk: Desk) -> None:
        make_original(desk.database)
        desk.database.execute("DELETE FROM migrations")
        assert desk.read() == History()

    @pytest.mark.parametrize("definition", TestForeignTable.FOREIGN)
    def test_a_foreign_one_further_down_is_in_nobodys_way(self, desk: Desk, definition: str) -> None:
        desk.database.execute(definition)
        assert desk.read() == History()

    def test_the_table_is_made_where_we_read(self, desk: Desk) -> None:
        make_original(desk.database)
        desk.create()
        desk.record("005")
        assert [r.version for r in desk.read().rows] == ["005"]
        assert desk.database.query("SELECT version FROM app.migrations") == [("005",)]
        assert len(desk.database.query("SELECT version FROM public.migrations")) == 2

    def test_a_foreign_one_in_our_schema_is_refused(self, desk: Desk) -> None:
        desk.database.execute("CREATE TABLE app.migrations (id integer, migration text)")
        with pytest.raises(ForeignTableError):
            desk.read()

    def test_a_schema_of_ones_own(self, postgres_database: Database, desk_for: Callable[..., Desk]) -> None:
        make_original(postgres_database)
        postgres_database.execute('CREATE SCHEMA "Tenant 1"')
        desk = desk_for(postgres_database, schema="Tenant 1")
        assert desk.read() == History()
        desk.create()
        desk.record("005")
        assert [r.version for r in desk.read().rows] == ["005"]
        assert postgres_database.query('SELECT version FROM "Tenant 1".migrations') == [("005",)]

    def test_without_any_schema_the_cure_is_named(
        self, postgres_database: Database, desk_for: Callable[..., Desk]
    ) -> None:
        engine = sa.create_engine(
            postgres_database.url, poolclass=sa.NullPool, connect_args={"options": "-c search_path=nowhere"}
        )
        with pytest.raises(ConfigurationError, match="search_path") as caught:
            desk_for(postgres_database, engine).read()
        assert caught.value.hint is not None
        assert "DB_MIGRATE_SCHEMA" in caught.value.hint

    def test_a_table_that_may_not_be_read_is_not_an_empty_history(
        self, postgres_database: Database, desk_for: Callable[..., Desk]
    ) -> None:
        make_original(postgres_database)
        role = f"r_{uuid.uuid4().hex[:12]}"
        postgres_database.execute(f"CREATE ROLE {role}")
        engine = postgres_database.engine()

        @sa.event.listens_for(engine, "connect")
        def _as_guest(driver: Any, _record: Any) -> None:
            with driver.cursor() as cursor:
                cursor.execute(f"SET ROLE {role}")
            driver.commit()

        try:
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                desk_for(postgres_database, engine).read()
        finally:
            postgres_database.execute(f"DROP ROLE {role}")


class TestTimes:
    @pytest.mark.parametrize(
        ("stored", "expected"),
        [
            ("2025-03-01 10:00:00", datetime(2025, 3, 1, 10, tzinfo=UTC)),
            ("2025-03-01 10:00:00.250", datetime(2025, 3, 1, 10, 0, 0, 250_000, tzinfo=UTC)),
            ("2025-03-01T12:00:00+02:00", datetime(2025, 3, 1, 10, tzinfo=UTC)),
            ("2025-03-01 10:00:00Z", datetime(2025, 3, 1, 10, tzinfo=UTC)),
            ("some day", None),
            (None, None),
        ],
    )
    def test_sqlite_keeps_texts(
        self, sqlite_database: Database, desk_for: Callable[..., Desk], stored: str | None, expected: datetime | None
    ) -> None:
        desk = desk_for(sqlite_database)
        make_original(sqlite_database)
        value = "NULL" if stored is None else f"'{stored}'"
        sqlite_database.execute(f"UPDATE migrations SET applied_at = {value}")
        found = desk.read().rows[0].applied_at
        assert found == expected
        assert found is None or found.tzinfo is UTC

    def test_a_server_in_another_time_zone(self, postgres_database: Database, desk_for: Callable[..., Desk]) -> None:
        make_original(postgres_database)
        engine = sa.create_engine(
            postgres_database.url, poolclass=sa.NullPool, connect_args={"options": "-c timezone=Asia/Kathmandu"}
        )
        found = desk_for(postgres_database, engine).read().rows[0].applied_at
        assert found == datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
        assert found.tzinfo is UTC

    def test_a_column_without_a_time_zone_is_utc(
        self, postgres_database: Database, desk_for: Callable[..., Desk]
    ) -> None:
        make_original(postgres_database)
        postgres_database.execute("SET timezone = 'UTC'; ALTER TABLE migrations ALTER applied_at TYPE timestamp")
        assert desk_for(postgres_database).read().rows[0].applied_at == datetime(2024, 2, 29, 12, 30, tzinfo=UTC)


class TestWriting:
    def test_a_record_is_a_plain_insert_on_a_unique_version(self, desk: Desk) -> None:
        write = desk.tracker.record(desk.place(), migration("001"), FACTS)
        assert write.sql.startswith("INSERT INTO ")
        assert "CONFLICT" not in write.sql.upper()
        desk.create()
        desk.write(write)
        with pytest.raises((sa.exc.IntegrityError, Exception), match=r"(?i)unique"):
            desk.write(write)
        assert len(desk.read().rows) == 1

    def test_names_are_stored_as_they_are(self, desk: Desk) -> None:
        name = "50%_of_ünïts_%s_:x_?_'\"\\_日本"
        desk.create()
        desk.write(desk.tracker.record(desk.place(), migration("001", name), FACTS))
        assert desk.read().rows[0].name == name

    def test_whoever_acts_can_be_written_down(self, desk: Desk) -> None:
        desk.create()
        place = desk.place()
        for number, actor in enumerate(["x" * 300, "null\0byte", "half \udc80 a character"]):
            desk.write(desk.tracker.record(place, migration(str(number)), RowFacts("staging", actor, 1)))
        assert [r.applied_by for r in desk.read().rows] == ["x" * 255, "null\ufffdbyte", "half ? a character"]

    def test_a_row_by_hand_has_no_checksum(self, desk: Desk) -> None:
        desk.create()
        desk.write(desk.tracker.record_by_hand(desk.place(), "001", "by hand", "applied"))
        (row,) = desk.read().rows
        assert (row.status, row.checksum, row.environment, row.applied_by) == ("applied", None, None, None)

    def test_running_becomes_applied(self, desk: Desk) -> None:
        desk.create()
        place = desk.place()
        desk.write(desk.tracker.record(place, migration("001"), FACTS, status="running"))
        assert desk.read().rows[0].is_running
        desk.write(desk.tracker.finish(place, migration("001"), RowFacts("staging", "Ada", 99)))
        (row,) = desk.read().rows
        assert row.is_applied
        assert row.duration_ms == 99

    def test_only_running_becomes_applied(self, desk: Desk) -> None:
        desk.create()
        desk.record("001")
        with pytest.raises(HistoryChangedError):
            desk.write(desk.tracker.finish(desk.place(), migration("001"), FACTS))

    def test_marking_gives_a_row_another_status(self, desk: Desk) -> None:
        desk.create()
        desk.record("001", "002")
        desk.write(desk.tracker.mark(desk.place(), desk.read().rows[0], "running"))
        assert [r.status for r in desk.read().rows] == ["running", "applied"]

    def test_removing_hits_exactly_the_row_that_was_read(self, desk: Desk) -> None:
        desk.create()
        desk.record("001", "002")
        desk.write(desk.tracker.remove(desk.place(), desk.read().rows[0]))
        assert [r.version for r in desk.read().rows] == ["002"]

    @pytest.mark.parametrize("change", ["remove", "mark"])
    def test_a_row_that_somebody_else_removed_is_an_error_and_nothing_is_written(self, desk: Desk, change: str) -> None:
        desk.create()
        desk.record("001", "002")
        place, row = desk.place(), desk.read().rows[0]
        desk.write(desk.tracker.remove(place, row))
        missed = desk.tracker.remove(place, row) if change == "remove" else desk.tracker.mark(place, row, "running")
        with pytest.raises(HistoryChangedError):
            desk.write(desk.tracker.record_by_hand(place, "003", "x", "applied"), missed)
        assert [r.version for r in desk.read().rows] == ["002"]

    def test_several_writes_are_one_transaction(self, desk: Desk) -> None:
        desk.create()
        place = desk.place()
        twice: Sequence[Write] = [desk.tracker.record(place, migration("001"), FACTS)] * 2
        with pytest.raises(Exception, match=r"(?i)unique"):
            desk.write(*twice)
        assert desk.read().rows == ()

    def test_no_write_sends_nothing(self, desk: Desk) -> None:
        desk.write()
        assert desk.database.tables() == set()
