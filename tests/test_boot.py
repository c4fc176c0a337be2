"""What happens when an app starts serving: real servers, real requests, and nothing at all where nothing is served."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.sessions import SecureCookieSession, SessionInterface
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from cryoprotect.migrations_ext import boot
from cryoprotect.migrations_ext.api import Manager
from cryoprotect.migrations_ext.boot import guard
from cryoprotect.migrations_ext.dialects import dialect_for
from cryoprotect.migrations_ext.model import OnBoot
from cryoprotect.migrations_ext.settings import Settings

from .conftest import ROOT, Database

Write = Callable[[str, str], Path]
MakeApp = Callable[..., Flask]

APP = """
import os

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from cryoprotect.migrations_ext import Migrations

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_URL"]
app.config.from_prefixed_env("TEST")
db = SQLAlchemy(app)


@app.before_request
def count():
    db.session.execute(sa.text("select count(*) from a")).scalar_one()


@app.get("/")
def home():
    on_postgresql = db.engine.dialect.name == "postgresql"
    server = db.session.execute(sa.text("select pg_backend_pid()")).scalar_one() if on_postgresql else None
    return {"pid": os.getpid(), "server": server}


Migrations(db, app)

if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
"""

only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Server:
    """A process that serves the app, and what it says."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str], port: int) -> None:
        self._log = folder / f"server-{port}.log"
        self._port = port
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def get(self, path: str = "/", **headers: str) -> Answer:
        """Ask as often as it takes the server to listen."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", headers=headers)
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return Answer(response.status, response.headers, response.read().decode())
            except urllib.error.HTTPError as error:
                with error:
                    return Answer(error.code, error.headers, error.read().decode())
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the reloader's child, a worker that hangs
        self._process.wait()


@pytest.fixture
def environment(database: Database, tmp_path: Path) -> dict[str, str]:
    """Variables of a process that finds the package and knows nothing of this test run."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FLASK_", "DB_MIGRATE_", "PYTEST_"))}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "FLASK_APP": "app",
        "TEST_URL": database.url,
        "TEST_DB_MIGRATE_ENVIRONMENT": "development",
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Run a program beside the app to its end, which has to be a good one; returns what it said."""

    def call(*command: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return call


@pytest.fixture
def serve(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server: `serve("-m", "flask", "run", "--port", "{port}", TEST_…="…")`."""
    servers: list[Server] = []

    def start(*command: str, **variables: str) -> Server:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [sys.executable, *(word.format(port=port) for word in command)]
        servers.append(Server(words, tmp_path, {**environment, "PORT": str(port), **variables}, port))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


FLASK_RUN = ("-m", "flask", "run", "--port", "{port}")
GUNICORN = ("-m", "gunicorn", "--workers", "4", "--bind", "127.0.0.1:{port}", "app:app")


@pytest.fixture
def two(write_script: Write) -> None:
    """Two migrations, `a` and `b`, one in each language."""
    write_script("001_a.sql", "create table a (id integer);")
    write_script("002_b.py", "def apply(conn, environment):\n    conn.sql('create table b (id integer)').execute()\n")


def finished_steps(database: Database) -> list[tuple[Any, ...]]:
    return database.query(
        "select version, source from migrations_journal where event = 'step_finished' order by version, id"
    )


TWO_STEPS = [("001", "boot"), ("002", "boot")]


class TestServing:
    """Development applies what is pending, once, before the first page."""

    @pytest.mark.usefixtures("two")
    def test_flask_run(self, serve: Callable[..., Server], database: Database) -> None:
        server = serve(*FLASK_RUN)
        assert server.get().status == 200
        assert database.own_tables() == {"a", "b"}
        assert finished_steps(database) == TWO_STEPS
        assert server.log.count("Applied 2 migrations: 001_a, 002_b.") == 1

    @only_sqlite
    @pytest.mark.usefixtures("two")
    def test_under_the_reloader_only_the_process_that_serves(
        self, serve: Callable[..., Server], database: Database
    ) -> None:
        server = serve(*FLASK_RUN, "--debug")
        pid = server.get().json["pid"]
        assert finished_steps(database) == TWO_STEPS
        assert database.query("select distinct pid from migrations_journal") == [(pid,)]
        assert server.log.count("Applied 2 migrations") == 1

    @only_sqlite
    @pytest.mark.usefixtures("two")
    def test_debug_mode_is_development_where_nothing_else_says_so(
        self, serve: Callable[..., Server], environment: dict[str, str], database: Database
    ) -> None:
        del environment["TEST_DB_MIGRATE_ENVIRONMENT"]
        assert serve(*FLASK_RUN, "--debug", "--no-reload").get().status == 200
        assert database.query("select distinct environment from migrations") == [("development",)]

    @only_sqlite
    @pytest.mark.usefixtures("two")
    def test_a_config_s_debug_flag_does_not_count_under_flask_which_resets_it(
        self, serve: Callable[..., Server], environment: dict[str, str], database: Database
    ) -> None:
        del environment["TEST_DB_MIGRATE_ENVIRONMENT"]
        server = serve(*FLASK_RUN, TEST_DEBUG="true")
        assert server.get().status == 500  # the host's own hook meets no table: production applies nothing
        assert database.tables() == set()
        assert "2 migrations are pending: 001_a, 002_b." in server.log

    @only_sqlite
    @pytest.mark.usefixtures("two")
    def test_python_with_app_run(self, serve: Callable[..., Server], database: Database) -> None:
        assert serve("app.py").get().status == 200
        assert finished_steps(database) == TWO_STEPS

    @only_sqlite
    @pytest.mark.usefixtures("two")
    def test_any_other_import(self, run: Callable[..., str], database: Database) -> None:
        run("-c", "import app")
        assert finished_steps(database) == TWO_STEPS

    @only_sqlite
    @pytest.mark.usefixtures("two")
    def test_a_server_whose_command_line_is_a_click_program(
        self, run: Callable[..., str], database: Database, tmp_path: Path
    ) -> None:
        (tmp_path / "uvicorn.py").write_text(
            "import click\n\n@click.command()\n@click.argument('target')\ndef main(target):\n    __import__(target)\n"
        )
        run("-c", "import uvicorn; uvicorn.main()", "app")
        assert finished_steps(database) == TWO_STEPS

    @pytest.mark.usefixtures("two")
    @pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
    def test_gunicorn_with_four_workers_on_an_empty_database(
        self, serve: Callable[..., Server], database: Database, preload: bool
    ) -> None:
        server = serve(*GUNICORN, *(["--preload"] if preload else []))
        connections: dict[int, set[int | None]] = {}
        deadline = time.monotonic() + 60
        while len(connections) < 4 and time.monotonic() < deadline:
            answer = server.get()
            assert answer.status == 200, server.log
            connections.setdefault(answer.json["pid"], set()).add(answer.json["server"])
        assert len(connections) == 4
        assert finished_steps(database) == TWO_STEPS
        assert database.query("select version, status from migrations order by version") == [
            ("001", "applied"),
            ("002", "applied"),
        ]
        if database.is_postgresql:  # no two processes talk over one socket
            servers = [pid for found in connections.values() for pid in found]
            assert len(servers) == len(set(servers))

    @only_sqlite
    def test_a_failure_is_shown_until_it_is_mended_and_applied_by_command(
        self, serve: Callable[..., Server], run: Callable[..., str], write_script: Write
    ) -> None:
        write_script("001_a.sql", "create table a (id integer)")
        bad = write_script("002_bad.sql", "create table <b> (id integer)")
        server = serve(*FLASK_RUN)
        answer = server.get()
        assert answer.status == 503
        assert "Migration 002_bad did not apply" in answer.text
        assert server.log.count("Migration 002_bad did not apply") == 1
        bad.write_text("create table b (id integer)")
        run("-m", "flask", "db-migrate", "apply")
        later()
        assert server.get().status == 200


@only_sqlite
@pytest.mark.usefixtures("two")
class TestNotServing:
    """Everything else leaves the database as it is."""

    @pytest.mark.parametrize(
        "command",
        [
            ["--help"],
            ["run", "--help"],
            ["routes"],
            ["shell"],
            ["db-migrate", "status"],
            ["db-migrate", "apply", "--dry-run"],
        ],
        ids=" ".join,
    )
    def test_a_command(self, run: Callable[..., str], database: Database, command: list[str]) -> None:
        run("-m", "flask", *command)
        assert database.tables() == set()

    def test_a_shell_that_completes_a_command(
        self, run: Callable[..., str], database: Database, environment: dict[str, str]
    ) -> None:
        environment |= {"_FLASK_COMPLETE": "bash_complete", "COMP_WORDS": "flask ", "COMP_CWORD": "1"}
        # `python -m flask` would look for another variable: the program's name is part of it.
        run("-c", "import sys; sys.argv[0] = 'flask'; import app; from flask.cli import main; main()")
        assert database.tables() == set()

    def test_a_command_of_ours_without_flask(self, run: Callable[..., str], database: Database) -> None:
        run("-m", "cryoprotect.migrations_ext", "status")
        assert database.tables() == set()

    def test_a_command_of_the_host_that_happens_to_be_called_run(
        self, run: Callable[..., str], database: Database, tmp_path: Path
    ) -> None:
        (tmp_path / "jobs.py").write_text(
            "import click\n\n@click.group()\ndef jobs(): ...\n\n@jobs.command()\ndef run():\n    import app\n\njobs()\n"
        )
        run("jobs.py", "run")
        assert database.tables() == set()

    def test_a_test_run(self, run: Callable[..., str], database: Database, tmp_path: Path) -> None:
        (tmp_path / "test_it.py").write_text("from app import app\n\ndef test_it():\n    assert app\n")
        assert "1 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
        assert database.tables() == set()

    def test_off(self, run: Callable[..., str], database: Database) -> None:
        assert run("-c", "import app", TEST_DB_MIGRATE_ON_BOOT="off") == ""
        assert database.tables() == set()


BROKEN = """
-- migrate:up
create table b (id integer);
create table <c> (id integer);
"""
HOSTILE = [
    {"REMOTE_ADDR": "192.0.2.7"},
    {"HTTP_HOST": "evil.example"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An app with a page, whose start has not happened yet."""
    return with_page(make_app())


def with_page(app: Flask) -> Flask:
    app.add_url_rule("/", "home", lambda: "the host's page")
    return app


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "cryoprotect.migrations_ext")
    return caplog


def started(app: Flask, on_boot: OnBoot = OnBoot.APPLY, environment: str = "development") -> FlaskClient:
    """What `flask run` does with an app, in this process; returns somebody who asks for pages."""
    boot.act(app, environment, on_boot, pauses=())
    return app.test_client()


def apply_elsewhere(make_app: MakeApp, **config: Any) -> None:
    """What another process does: an app of its own, an engine of its own."""
    other = make_app(**config)
    with other.app_context():
        Manager.for_app(other).apply()


def later() -> None:
    """Wait until the guard looks again."""
    time.sleep(guard.RECHECK_SECONDS + 0.05)


def assert_neutral(answer: TestResponse) -> None:
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Cache-Control"] == "no-store"
    for secret in ("001", "002", "bad", "migrat", "table", "database", "sql", "development", "production"):
        assert secret not in answer.text.lower(), secret


class TestFailure:
    """A migration that fails stops no app from starting; its pages say what is wrong until it is mended."""

    @pytest.fixture
    def bad(self, write_script: Write) -> Path:
        write_script("001_a.sql", "create table a (id integer);")
        return write_script("002_bad.sql", BROKEN)

    @pytest.mark.usefixtures("bad")
    def test_the_log_has_one_block(self, app: Flask, log: pytest.LogCaptureFixture) -> None:
        started(app)
        (record,) = log.records
        lines = record.getMessage().splitlines()
        assert lines[0].startswith("Migration 002_bad did not apply: ")
        assert any("002_bad.sql, line 3" in line for line in lines)
        assert "What state is the database in?" in lines
        assert "What now?" in lines
        assert record.levelno == logging.ERROR

    @pytest.mark.usefixtures("bad")
    @pytest.mark.parametrize("path", ["/", "/static/x.css", "/nowhere"])
    def test_every_page_is_the_report_for_a_local_browser(self, app: Flask, database: Database, path: str) -> None:
        answer = started(app).get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert answer.status_code == 503
        assert answer.mimetype == "text/html"
        assert answer.headers["Retry-After"]
        assert answer.headers["Cache-Control"] == "no-store"
        for part in (
            "<h1>Migration 002_bad did not apply</h1>",
            "002_bad.sql, line 3",
            "2 of 2",
            "create table &lt;c&gt; (id integer)",
            "What state is the database in?",
            "001 stays applied.",
            "Nothing is half done.",
            "What now?",
            "<li>Mend 002_bad.sql.</li>",
            "<code>flask db-migrate apply</code>",
        ):
            assert part in answer.text, part
        assert "<c>" not in answer.text
        assert ("^" in answer.text) == database.is_postgresql  # SQLite gives no position
        assert database.own_tables() == {"a"}

    @pytest.mark.usefixtures("bad")
    def test_json_where_it_is_asked_for(self, app: Flask) -> None:
        answer = started(app).get("/api", headers={"Accept": "application/json"})
        assert answer.status_code == 503
        assert answer.json is not None
        assert answer.json["error"]["type"] == "MigrationFailed"
        assert (answer.json["failed"]["version"], answer.json["failed"]["line"]) == ("002", 3)
        assert [done["version"] for done in answer.json["completed"]] == ["001"]

    @pytest.mark.usefixtures("bad")
    @pytest.mark.parametrize("environ", HOSTILE, ids=lambda e: "".join(e))
    @pytest.mark.parametrize("accept", ["text/html", "application/json"])
    def test_strangers_learn_nothing(self, app: Flask, environ: dict[str, str], accept: str) -> None:
        answer = started(app).get("/", headers={"Accept": accept}, environ_overrides=environ)
        assert_neutral(answer)
        assert "This site is being updated. Please try again in a moment." in answer.text
        assert answer.mimetype == accept

    @pytest.mark.usefixtures("bad")
    def test_the_answer_to_head_has_no_body(self, app: Flask) -> None:
        answer = started(app).head("/")
        assert (answer.status_code, answer.data) == (503, b"")

    def test_the_pages_come_back_when_it_is_mended_and_applied_elsewhere(
        self, app: Flask, make_app: MakeApp, bad: Path, log: pytest.LogCaptureFixture
    ) -> None:
        client = started(app)
        assert client.get("/").status_code == 503
        bad.write_text("create table c (id integer);", encoding="utf-8")
        later()
        assert "002_bad did not apply" in client.get("/").text  # a page changes nothing
        apply_elsewhere(make_app)
        later()
        log.clear()
        assert client.get("/").text == "the host's page"
        assert log.messages == ["The database is as this code needs it; the app's own pages are back."]

    def test_the_report_gives_way_to_what_is_pending_now(
        self, app: Flask, make_app: MakeApp, bad: Path, write_script: Write
    ) -> None:
        client = started(app)
        bad.write_text("create table c (id integer);", encoding="utf-8")
        apply_elsewhere(make_app)
        write_script("003_next.sql", "create table d (id integer);")
        later()
        text = client.get("/").text
        assert "1 migration is pending: 003_next." in text
        assert "002_bad" not in text

    @pytest.mark.usefixtures("bad")
    def test_the_admin_page_and_its_style_stay_open(self, app: Flask) -> None:
        client = started(app)
        assert '<link rel="stylesheet" href="/admin/migrations/static/admin.css">' in client.get("/").text
        for path in ("", "/", "/migrations/002", "/static/admin.css", "/static/icon.svg"):
            with client.get(f"/admin/migrations{path}", follow_redirects=True) as answer:
                assert answer.status_code == 200, path
        assert client.get("/admin/migrations/health").json["pending"] == 1

    @pytest.mark.usefixtures("bad")
    def test_under_a_sub_path(self, app: Flask) -> None:
        client = started(app)
        text = client.get("/", base_url="http://localhost/shop/").text
        assert 'href="/shop/admin/migrations/static/admin.css"' in text
        assert 'href="/shop/admin/migrations/"' in text

    @pytest.mark.usefixtures("bad")
    def test_without_the_admin_page_it_needs_no_style(self, make_app: MakeApp) -> None:
        text = started(make_app(DB_MIGRATE_ADMIN=False)).get("/").text
        assert "Migration 002_bad did not apply" in text
        assert "<link" not in text
        assert "href" not in text

    @pytest.mark.usefixtures("bad")
    def test_it_stands_before_the_host_s_own_hooks_and_sessions(self, app: Flask) -> None:
        """They may ask the database for what is not there yet."""

        class DatabaseSessions(SessionInterface):
            def open_session(self, *_: Any) -> SecureCookieSession:
                raise RuntimeError("no such table: sessions")

        def hook(*_: Any) -> Any:
            raise RuntimeError("no such table: users")

        app.session_interface = DatabaseSessions()
        app.before_request(hook)
        app.after_request(hook)
        app.context_processor(hook)
        app.url_value_preprocessor(hook)
        assert "002_bad did not apply" in started(app).get("/").text

    @pytest.mark.usefixtures("bad")
    @pytest.mark.parametrize("host", ["localhost", "evil.example"])
    def test_a_host_name_that_the_app_does_not_trust_gets_no_style(self, app: Flask, host: str) -> None:
        app.config["TRUSTED_HOSTS"] = ["shop.example"]
        assert "<link" not in started(app).get("/", headers={"Host": host}).text

    @only_sqlite
    def test_nothing_runs_inline(self, app: Flask, bad: Path) -> None:
        answer = started(app).get("/")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for inline in ("style=", "<style", "<script", "onclick"):
            assert inline not in answer.text

    @only_sqlite
    def test_what_a_server_says_cannot_write_html_or_turn_the_text(self, app: Flask, write_script: Write) -> None:
        write_script("001_a.py", "def apply(conn, environment):\n    raise ValueError('<b>\\u202e\\x1b[2J</b>')\n")
        text = started(app).get("/").text
        assert "ValueError: &lt;b&gt;\\u202e\\x1b[2J&lt;/b&gt;" in text

    @only_sqlite
    def test_files_that_clash(self, app: Flask, write_script: Write) -> None:
        write_script("001_a.sql", "select 1;")
        clash = write_script("1_b.sql", "select 1;")
        client = started(app)
        text = client.get("/").text
        assert "The database is not as this code needs it" in text
        assert "001_a.sql and 1_b.sql" in text
        assert "Nothing was changed." in text
        clash.unlink()
        later()
        assert "1 migration is pending: 001_a." in client.get("/").text

    @pytest.mark.usefixtures("bad")
    def test_one_thread_looks_and_the_others_do_not_wait(self, make_app: MakeApp) -> None:
        app = make_app(DB_MIGRATE_ADMIN=False)
        client = started(app)
        asked, go_on, looks = threading.Event(), threading.Event(), []

        @sa.event.listens_for(app.extensions["db_migrate"].engine, "do_connect")
        def wait(*_: Any) -> None:
            looks.append(threading.get_ident())
            asked.set()
            assert go_on.wait(30)

        answers: list[int] = []
        first = threading.Thread(target=lambda: answers.append(client.get("/").status_code))
        first.start()
        assert asked.wait(30)
        try:
            assert [app.test_client().get("/").status_code for _ in range(5)] == [503] * 5
            assert answers == []
            assert len(looks) == 1
        finally:
            go_on.set()
            first.join()
        assert answers == [503]


class TestWell:
    """While all is well nothing stands in the way, and nothing is asked."""

    def test_no_request_pays(self, app: Flask, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id integer);")
        untouched = app.wsgi_app
        client = started(app)
        assert app.wsgi_app == untouched
        statements: list[str] = []
        with app.app_context():
            sa.event.listen(
                app.extensions["db_migrate"].engine, "before_cursor_execute", lambda *a: statements.append(a[2])
            )
        assert client.get("/").text == "the host's page"
        assert statements == []

    @pytest.mark.usefixtures("two")
    def test_what_was_applied_is_logged_once(self, app: Flask, log: pytest.LogCaptureFixture) -> None:
        started(app)
        assert log.messages == ["Applied 2 migrations: 001_a, 002_b."]
        log.clear()
        started(app)
        assert log.messages == []

    def test_an_edited_file_warns_and_stops_nothing(
        self, app: Flask, write_script: Write, log: pytest.LogCaptureFixture
    ) -> None:
        write_script("001_a.sql", "create table a (id integer);")
        started(app)
        write_script("001_a.sql", "create table a (id integer, name text);")
        write_script("003_c.sql", "create table c (id integer);")
        started(app)
        write_script("002_b.sql", "create table b (id integer);")
        log.clear()
        assert started(app).get("/").status_code == 200
        assert [message.partition(";")[0] for message in log.messages] == [
            "001_a was edited after being applied",
            "002_b is older than a migration that is already applied.",
            "Applied 1 migration: 002_b.",
        ]

    @only_sqlite
    def test_a_project_without_scripts_serves_and_says_what_makes_the_folder(
        self, app: Flask, scripts: Path, log: pytest.LogCaptureFixture
    ) -> None:
        scripts.rmdir()
        assert started(app).get("/").status_code == 200
        (message,) = log.messages
        assert "is not there" in message
        assert "`flask db-migrate init`" in message

    @only_sqlite
    def test_a_folder_that_is_none_is_a_mistake(self, app: Flask, scripts: Path) -> None:
        scripts.rmdir()
        scripts.write_text("")
        assert "is a file" in started(app).get("/").text

    @only_sqlite
    @pytest.mark.usefixtures("two")
    def test_a_database_in_memory_survives_its_start(self, make_app: MakeApp) -> None:
        app = make_app(SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_ENGINE_OPTIONS={})
        engine = app.extensions["db_migrate"].engine
        app.add_url_rule("/", "tables", lambda: sa.inspect(engine).get_table_names())
        assert {"a", "b"} <= set(started(app).get("/").json)
        engine.dispose()

    @pytest.mark.usefixtures("two")
    def test_no_connection_stays_open(self, make_app: MakeApp) -> None:
        app = make_app(SQLALCHEMY_ENGINE_OPTIONS={})
        engine = app.extensions["db_migrate"].engine
        started(app)
        assert engine.pool.checkedin() == 0
        assert engine.pool.checkedout() == 0

    @pytest.mark.usefixtures("two")
    def test_it_waits_for_a_run_under_way_and_says_so(
        self, app: Flask, database: Database, log: pytest.LogCaptureFixture
    ) -> None:
        engine = database.engine()
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with dialect_for(engine).lock(
                engine, Settings(), actor="alice", on_wait=lambda holder: None, stop=threading.Event()
            ):
                held.set()
                release.wait(30)

        other = threading.Thread(target=hold)
        other.start()
        assert held.wait(30)
        threading.Timer(0.5, release.set).start()
        started(app)
        other.join()
        assert log.messages[0].startswith("Waiting for another migration run to finish: process ")
        assert "alice" in log.messages[0]
        assert log.messages[-1] == "Applied 2 migrations: 001_a, 002_b."


@pytest.mark.usefixtures("two")
class TestProtectedEnvironments:
    """Staging and production apply nothing: they warn, or with `require` keep their pages closed."""

    @pytest.mark.parametrize("environment", ["staging", "production"])
    def test_check_warns_only(
        self, app: Flask, database: Database, log: pytest.LogCaptureFixture, environment: str
    ) -> None:
        assert started(app, OnBoot.CHECK, environment).get("/").text == "the host's page"
        assert log.messages == ["2 migrations are pending: 001_a, 002_b.\nRun `flask db-migrate apply`."]
        assert database.tables() == set()

    def test_check_says_how_files_and_history_disagree(
        self, make_app: MakeApp, write_script: Write, log: pytest.LogCaptureFixture
    ) -> None:
        app = with_page(make_app(DB_MIGRATE_ENVIRONMENT="production"))
        apply_elsewhere(make_app, DB_MIGRATE_ENVIRONMENT="production")
        write_script("001_a.sql", "create table a (id integer, name text);")
        assert started(app, OnBoot.CHECK, "production").get("/").status_code == 200
        (message,) = log.messages
        assert "001_a was edited after being applied" in message
        assert "Put the file back as it was" in message

    @only_postgresql
    def test_check_does_not_stop_a_site_whatever_happens(self, app: Flask, log: pytest.LogCaptureFixture) -> None:
        @sa.event.listens_for(app.extensions["db_migrate"].engine, "do_connect")
        def fail(*_: Any) -> None:
            raise RuntimeError("the host's own listener is broken")

        assert started(app, OnBoot.CHECK, "production").get("/").status_code == 200
        assert log.messages == ["The start-up check of the migrations failed; the app starts all the same."]

    @only_sqlite
    def test_off_is_silent(self, app: Flask, log: pytest.LogCaptureFixture) -> None:
        assert started(app, OnBoot.OFF, "production").get("/").status_code == 200
        assert log.messages == []

    @pytest.mark.parametrize("environment", ["staging", "production"])
    def test_require_closes_every_page_until_it_is_applied(
        self, make_app: MakeApp, database: Database, log: pytest.LogCaptureFixture, environment: str
    ) -> None:
        config = {"DB_MIGRATE_ENVIRONMENT": environment, "DB_MIGRATE_ON_BOOT": "require"}
        client = started(with_page(make_app(**config)), OnBoot.REQUIRE, environment)
        for path in ("/", "/nowhere"):
            assert_neutral(client.get(path))  # for local browsers as well
        assert_neutral(client.get("/", headers={"Accept": "application/json"}))
        assert [record.levelno for record in log.records] == [logging.ERROR]
        assert "2 migrations are pending: 001_a, 002_b." in log.messages[0]
        assert database.tables() == set()
        apply_elsewhere(make_app, **config)
        later()
        assert client.get("/").text == "the host's page"

    def test_require_leaves_probes_their_answer(self, make_app: MakeApp) -> None:
        client = started(make_app(DB_MIGRATE_ENVIRONMENT="production"), OnBoot.REQUIRE, "production")
        answer = client.get("/admin/migrations/health")
        assert (answer.status_code, answer.json["pending"]) == (503, 2)
        assert client.get("/admin/migrations/").status_code == 403

    def test_require_does_not_close_a_site_for_an_edited_or_lost_file(
        self, make_app: MakeApp, write_script: Write, scripts: Path
    ) -> None:
        """The servers of the release before are well although the history knows more than they do."""
        app = with_page(make_app(DB_MIGRATE_ENVIRONMENT="production"))
        apply_elsewhere(make_app, DB_MIGRATE_ENVIRONMENT="production")
        write_script("001_a.sql", "create table a (id integer, name text);")
        (scripts / "002_b.py").unlink()
        assert started(app, OnBoot.REQUIRE, "production").get("/").text == "the host's page"

    @only_sqlite
    def test_require_without_the_folder_of_scripts_knows_nothing_and_stays_closed(
        self, app: Flask, scripts: Path
    ) -> None:
        scripts.rename(scripts.with_name("elsewhere"))
        assert_neutral(started(app, OnBoot.REQUIRE, "production").get("/"))

    @only_sqlite
    def test_require_in_development_tells_the_developer(self, app: Flask) -> None:
        text = started(app, OnBoot.REQUIRE).get("/").text
        assert "2 migrations are pending: 001_a, 002_b." in text
        assert "<li>Run <code>flask db-migrate apply</code>.</li>" in text


class TestUnreachable:
    """A database that is not up yet is waited for, a few seconds, and what was to happen happens when it is there."""

    @pytest.fixture
    def database(self, postgres_server: str) -> Iterator[Database]:
        """A PostgreSQL database that does not exist yet."""
        url = sa.make_url(postgres_server).set(drivername="postgresql+psycopg2", database=f"t_{uuid.uuid4().hex[:12]}")
        yield Database("postgresql", url.render_as_string(hide_password=False))
        self._server(postgres_server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")

    @staticmethod
    def _server(url: str, statement: str) -> None:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    @pytest.mark.usefixtures("two")
    def test_the_wait_is_bounded_and_says_what_is_awaited(
        self, app: Flask, log: pytest.LogCaptureFixture, database: Database
    ) -> None:
        name = sa.make_url(database.url).database
        boot.act(app, "development", OnBoot.APPLY, pauses=(0.01, 0.02))
        assert len(log.messages) == 3
        assert all(message.startswith(f"The database '{name}' cannot be reached: ") for message in log.messages)
        assert [message.rpartition(" Trying again ")[2] for message in log.messages[:2]] == ["in 0.01 s.", "in 0.02 s."]
        assert "Check that it is running" in log.messages[2]

    @pytest.mark.usefixtures("two")
    def test_the_page_gives_way_when_the_database_is_there(
        self, app: Flask, log: pytest.LogCaptureFixture, database: Database, postgres_server: str
    ) -> None:
        client = started(app)
        text = client.get("/").text
        assert "cannot be reached" in text
        assert "Check that it is running" in text
        assert_neutral(client.get("/", environ_overrides=HOSTILE[0]))
        self._server(postgres_server, f"CREATE DATABASE {sa.make_url(database.url).database} TEMPLATE template0")
        later()
        log.clear()
        assert client.get("/").text == "the host's page"
        assert log.messages[0] == "Applied 2 migrations: 001_a, 002_b."
        assert database.own_tables() == {"a", "b"}

    @pytest.mark.usefixtures("two")
    def test_production_s_pages_come_back_only_when_it_is_applied(
        self, make_app: MakeApp, database: Database, postgres_server: str
    ) -> None:
        client = started(with_page(make_app(DB_MIGRATE_ENVIRONMENT="production")), OnBoot.REQUIRE, "production")
        assert_neutral(client.get("/"))
        self._server(postgres_server, f"CREATE DATABASE {sa.make_url(database.url).database} TEMPLATE template0")
        later()
        assert_neutral(client.get("/"))
        assert database.tables() == set()
        apply_elsewhere(make_app, DB_MIGRATE_ENVIRONMENT="production")
        later()
        assert client.get("/").text == "the host's page"

    def test_check_says_it_and_lets_the_app_start(self, app: Flask, log: pytest.LogCaptureFixture) -> None:
        assert started(app, OnBoot.CHECK, "production").get("/").text == "the host's page"
        assert len(log.messages) == 1
        assert "cannot be reached" in log.messages[0]

    @pytest.mark.parametrize("password", ["s3cr3t", "p%40s3cr3t", "p@s3cr3t", "p%2Fs3cr3t"])
    def test_the_password_is_told_nowhere(
        self, make_app: MakeApp, log: pytest.LogCaptureFixture, password: str
    ) -> None:
        app = make_app(SQLALCHEMY_DATABASE_URI=f"postgresql+psycopg2://bob:{password}@127.0.0.1:1/shop")
        boot.act(app, "development", OnBoot.APPLY, pauses=(0.01,))
        pages = everything_told(app)
        assert "cannot be reached" in pages
        assert "s3cr3t" not in "".join([pages, *log.messages])


def everything_told(app: Flask) -> str:
    client = app.test_client()
    return "".join(client.get("/", headers={"Accept": accept}).text for accept in ("text/html", "application/json"))


@only_postgresql
def test_a_script_that_says_the_password_is_not_repeated(
    make_app: MakeApp, database: Database, write_script: Write, log: pytest.LogCaptureFixture
) -> None:
    write_script(
        "001_a.py", "def apply(conn, environment):\n    raise ValueError('no access for admin with s3cr3t-word')\n"
    )
    write_script("002_b.sql", "select 's3cr3t-word' from nowhere;")
    url = sa.make_url(database.url).set(password="s3cr3t-word").render_as_string(hide_password=False)
    for _ in range(2):
        app = make_app(SQLALCHEMY_DATABASE_URI=url)
        boot.act(app, "development", OnBoot.APPLY, pauses=())
        pages = everything_told(app)
        assert "did not apply" in pages
        assert "s3cr3t" not in "".join([pages, *log.messages])
        write_script("001_a.py", "def apply(conn, environment): ...\n")


@only_postgresql
class TestLooks:
    """The report in a real browser: both themes, narrow and wide."""

    @pytest.fixture
    def address(self, app: Flask, write_script: Write) -> Iterator[str]:
        write_script("001_bad.sql", f"select '{'long ' * 40}'; create table <c> (id integer);")
        boot.act(app, "development", OnBoot.APPLY, pauses=())
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
        server.server_close()

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 1280])
    def test_the_report_is_readable(self, browser: Any, address: str, width: int, theme: str) -> None:
        context = browser.new_context(viewport={"width": width, "height": 720}, color_scheme=theme)
        try:
            page = context.new_page()
            complaints: list[str] = []
            page.on("console", lambda message: complaints.append(message.text))
            page.goto(address)
            assert [text for text in complaints if "503" not in text] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.get_by_role("heading", level=1).inner_text() == "Migration 001_bad did not apply"
            assert page.locator("h2").all_inner_texts() == ["What state is the database in?", "What now?"]
            ground = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
            assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[theme]
            page.get_by_role("link", name="Open the migrations page").click()
            assert page.get_by_role("heading", level=1).inner_text() == "Failed"
        finally:
            context.close()
