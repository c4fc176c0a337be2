"""The commands as real processes: how they find the app, what signals do, who may read stdout, what terminals show."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from .conftest import ROOT, Database

Write = Callable[[str, str], Path]

APP = """
import os
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from cryoprotect.migrations_ext import Migrations

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_URL"]
app.config.from_prefixed_env("TEST")
db = SQLAlchemy(app)
Migrations(db, app)
"""
MODULE = [sys.executable, "-m", "cryoprotect.migrations_ext"]
FLASK = [sys.executable, "-m", "flask"]


@pytest.fixture
def environment(database: Database, tmp_path: Path) -> dict[str, str]:
    """Variables of a process that finds the package and, as if it were installed, its entry point."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name, target) = next(iter(project["entry-points"]["flask.commands"].items()))
    packages = tmp_path / "installed"
    installed = packages / "our_entry_point-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: our-entry-point\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[flask.commands]\n{name} = {target}\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FLASK_", "DB_MIGRATE_", "PYTEST_"))}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)]),
        "TEST_URL": database.url,
        "TEST_DB_MIGRATE_ENVIRONMENT": "development",
        "TERM": "xterm-256color",
        "COLUMNS": "80",
        "LINES": "40",
    }


@pytest.fixture
def app_file(tmp_path: Path) -> Path:
    """A module with a ready `app`, beside its `migration_scripts`, where `flask` looks first."""
    path = tmp_path / "wsgi.py"
    path.write_text(APP, encoding="utf-8")
    return path


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run a program in the app's folder: `run(*MODULE, "status", DB_MIGRATE_ENVIRONMENT="staging")`."""

    def call(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


class TestDoors:
    """`flask db-migrate` by its entry point, and `python -m`, are the same commands."""

    @pytest.mark.usefixtures("app_file")
    @pytest.mark.parametrize("door", [[*FLASK, "db-migrate"], MODULE], ids=["flask", "module"])
    def test_the_main_job(self, run: Run, database: Database, write_script: Write, door: list[str]) -> None:
        write_script("001_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
        assert run(*door, "status", "--check").returncode == 3
        applied = run(*door, "apply")
        assert applied.returncode == 0, applied.stderr
        assert applied.stdout.startswith("applied 001_a ")
        assert applied.stderr == ""
        assert json.loads(run(*door, "status", "--format", "json").stdout)["001"]["status"] == "applied"
        assert run(*door, "rollback").returncode == 0
        assert database.own_tables() == set()
        assert run(*door, "apply", "--target", "9").returncode == 2

    def test_the_app_can_be_named(self, run: Run, tmp_path: Path, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id int);")
        (tmp_path / "other.py").write_text(APP + "\napplication = app\n")
        for command in (
            [*FLASK, "--app", "other", "db-migrate", "apply", "--check"],
            [*MODULE, "--app", "other:application", "apply", "--check"],
            [*MODULE, "-A", "other", "apply", "--check"],
        ):
            result = run(*command)
            assert result.returncode == 3, result.stderr
            typed = "--app other"
            assert typed in result.stdout.splitlines()[-1]
        assert run(*MODULE, "apply", "--check", FLASK_APP="other").returncode == 3

    @pytest.mark.usefixtures("app_file")
    def test_the_module_names_itself_in_its_help_and_hints(self, run: Run, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id int);")
        assert run(*MODULE, "--help").stdout.startswith("Usage: python -m cryoprotect.migrations_ext ")
        assert "\nNext: python -m cryoprotect.migrations_ext apply\n" in run(*MODULE, "status").stdout

    def test_env_reaches_the_factory_before_the_app_exists(self, run: Run, tmp_path: Path, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id int);")
        (tmp_path / "wsgi.py").write_text(
            textwrap.dedent("""
            import os
            from flask import Flask
            from flask_sqlalchemy import SQLAlchemy
            from cryoprotect.migrations_ext import Migrations

            def create_app():
                label = os.environ.get("DB_MIGRATE_ENVIRONMENT", "development")
                app = Flask(__name__)
                app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{app.root_path}/{label}.sqlite"
                app.config["DB_MIGRATE_ENVIRONMENT"] = label
                Migrations(SQLAlchemy(app), app)
                return app
            """)
        )
        for door in ([*FLASK, "db-migrate"], MODULE):
            for label in ("staging", "testing"):
                assert run(*door, "apply", "--env", label).returncode == 0
        assert {p.name for p in tmp_path.glob("*.sqlite")} == {"staging.sqlite", "testing.sqlite"}

    def test_importing_the_group_loads_click_and_the_ground_only(self, run: Run) -> None:
        program = """
        import sys
        before = set(sys.modules)
        import cryoprotect.migrations_ext.cli as cli
        list(cli.db_migrate.list_commands(None))
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
        print(*sorted(name for name in sys.modules if name.startswith("cryoprotect")))
        """
        packages, ours = run(sys.executable, "-c", textwrap.dedent(program)).stdout.splitlines()
        heavy = {"sqlalchemy", "alembic", "rich", "pygments", "flask", "flask_sqlalchemy", "psycopg2", "jinja2"}
        assert not heavy & set(packages.split())
        assert ours.split() == ["cryoprotect", "cryoprotect.migrations_ext", "cryoprotect.migrations_ext.cli"]

    @pytest.mark.usefixtures("app_file")
    def test_running_in_a_pipe_loads_no_rich(self, run: Run, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id int);")
        program = """
        import sys
        from cryoprotect.migrations_ext.__main__ import make_group
        for words in (["apply"], ["status"]):
            make_group().main(words, standalone_mode=False)
        print(sorted({"rich", "pygments", "alembic"} & set(sys.modules)))
        """
        assert run(sys.executable, "-c", textwrap.dedent(program)).stdout.splitlines()[-1] == "[]"


class TestAppsThatDoNotLoad:
    """One sentence with file and line, exit code 2, no traceback but on request."""

    @pytest.fixture
    def database(self, sqlite_database: Database) -> Database:
        """What is tested here never reaches a database, so one kind is enough."""
        return sqlite_database

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("raise ModuleNotFoundError('no psycopg', name='psycopg')\n", ["postgresql+psycopg2://"]),
            ("import no_such_module\n", ["ModuleNotFoundError: No module named 'no_such_module'", "wsgi.py, line 1"]),
            ("x = 1\nimport os.nothing\n", ["wsgi.py, line 2"]),
            ("x = (\n", ["SyntaxError", "wsgi.py, line 1"]),
            ("def create_app():\n    raise RuntimeError('no tea')\n", ["RuntimeError: no tea", "wsgi.py, line 2"]),
            (
                "import os\n\ndef create_app():\n    os.environ['NOT_SET']\n",
                ["KeyError: 'NOT_SET'", "wsgi.py, line 4"],
            ),
            (
                "import sqlalchemy\n\ndef create_app():\n    sqlalchemy.create_engine('postgres//bob:Canary7@h/d')\n",
                ["wsgi.py, line 4"],
            ),
            (
                "def create_app():\n    raise ValueError('postgresql://bob:Canary7@host/db')\n",
                ["ValueError: postgresql://***@host/db", "wsgi.py, line 2"],
            ),
            ("raise SystemExit('go away')\n", ["ended the process", "go away", "wsgi.py, line 1"]),
            ("import sys\nsys.exit(0)\n", ["ended the process", "wsgi.py, line 2"]),
            ("nothing = 1\n", ["The Flask app was not found", "--app module:name"]),
        ],
    )
    def test_is_a_sentence(self, run: Run, tmp_path: Path, text: str, expected: list[str]) -> None:
        (tmp_path / "wsgi.py").write_text(text)
        result = run(*MODULE, "status")
        assert result.returncode == 2, result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert "Canary" not in result.stderr
        for part in expected:
            assert part in result.stderr

    @pytest.mark.parametrize("door", [[*FLASK, "db-migrate"], MODULE], ids=["flask", "module"])
    def test_is_a_document_and_on_request_a_traceback(self, run: Run, tmp_path: Path, door: list[str]) -> None:
        (tmp_path / "wsgi.py").write_text("import nothing\nraise ValueError('postgresql://bob:Canary7@host/db')\n")
        result = run(*door, "--debug", "status", "--format", "json")
        assert result.returncode == 2
        told = json.loads(result.stdout)
        assert told["error"]["type"] == "AppLoadError"
        assert told["failed"]["line"] == 1
        assert "Traceback" in result.stderr
        assert "Canary" not in result.stderr

    def test_an_app_that_is_not_there(self, run: Run) -> None:
        result = run(*MODULE, "--app", "absent", "status")
        assert result.returncode == 2
        assert "The Flask app was not found: Could not import 'absent'." in result.stderr
        assert "--app module:name" in result.stderr

    def test_our_host_says_what_is_missing(self, run: Run) -> None:
        result = run(*MODULE, "--app", "cryoprotect", "status", "--env", "production")
        assert result.returncode == 2
        assert "DATABASE_URL is not set" in result.stderr
        unknown = run(*MODULE, "--app", "cryoprotect", "status", "--env", "prod")
        assert unknown.returncode == 2
        assert "production" in unknown.stderr

    def test_a_wrong_setting_is_told_as_such(self, run: Run, app_file: Path) -> None:
        result = run(*MODULE, "status", TEST_DB_MIGRATE_DIRECTORI="x")
        assert result.returncode == 2
        assert "Did you mean DB_MIGRATE_DIRECTORY?" in result.stderr

    @pytest.mark.usefixtures("scripts")
    def test_an_app_that_starts_a_server_when_imported_does_not(self, run: Run, app_file: Path) -> None:
        app_file.write_text(APP + "\napp.run()\n")
        assert run(*MODULE, "status").returncode == 0


@pytest.mark.usefixtures("app_file")
class TestStreams:
    def test_json_is_one_document_whatever_prints(self, run: Run, write_script: Write, app_file: Path) -> None:
        app_file.write_text('print("app says hello")\n' + APP)
        write_script(
            "001_a.py",
            """
            import os, subprocess, sys

            real = sys.__stdout__

            def apply(conn, environment):
                print("print")
                os.write(1, b"descriptor\\n")
                os.system("echo shell")
                subprocess.run(["echo", "child"])
                real.write("kept stream\\n")
            """,
        )
        result = run(*MODULE, "apply", "--format", "json")
        assert [entry["version"] for entry in json.loads(result.stdout)] == ["001"]
        for said in ("app says hello", "descriptor", "shell", "child", "kept stream"):
            assert said in result.stderr

    def test_a_reader_who_goes_away_changes_nothing(
        self, environment: dict[str, str], tmp_path: Path, write_script: Write, database: Database
    ) -> None:
        for number in range(1, 9):
            write_script(f"{number:03}_t.sql", f"create table t{number} (id int);")
        process = subprocess.Popen(
            [*MODULE, "apply"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 0, said
        assert said == ""
        assert len(database.own_tables()) == 8

    @pytest.mark.usefixtures("scripts")
    def test_closed_streams_are_no_obstacle(self, environment: dict[str, str], tmp_path: Path) -> None:
        for redirection in (">&-", "2>&-", ">&- 2>&-"):
            for form in ("text", "json"):
                command = f"{sys.executable} -m cryoprotect.migrations_ext status --format {form} {redirection}"
                assert subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=False).returncode == 0

    def test_an_encoding_without_the_letters_is_no_obstacle(self, run: Run, write_script: Write) -> None:
        write_script("001_молекулы.sql", "create table a (id int);")
        result = run(*MODULE, "status", PYTHONIOENCODING="ascii")
        assert result.returncode == 0
        assert "001      \\u043c" in result.stdout


SLOW = {
    "postgresql": "create table slow (id int); select pg_sleep(60);",
    "sqlite": "create table slow (id int);\n"
    "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n;",
}


@pytest.mark.usefixtures("app_file")
class TestSignals:
    @pytest.fixture
    def start(self, environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
        started: list[subprocess.Popen[str]] = []

        def call(*command: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        yield call
        for process in started:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_stop_the_statement_and_leave_nothing_half_done(
        self,
        start: Callable[..., subprocess.Popen[str]],
        run: Run,
        write_script: Write,
        database: Database,
        number: signal.Signals,
        code: int,
    ) -> None:
        write_script("001_quick.sql", "create table quick (id int);")
        slow = write_script("002_slow.sql", SLOW[database.kind])
        process = start(*MODULE, "apply")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("applied 001_quick")
        time.sleep(0.5)
        asked = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - asked < 5
        assert process.returncode == code, said
        assert "Stopping: cancelling the statement under way and rolling back…" in said
        assert "Done before: applied 001_quick." in said
        assert "Traceback" not in said
        assert database.own_tables() == {"quick"}
        slow.write_text("create table slow (id int);")
        assert run(*MODULE, "apply").returncode == 0
        assert database.own_tables() == {"quick", "slow"}

    def test_stop_is_told_as_json(
        self, start: Callable[..., subprocess.Popen[str]], write_script: Write, database: Database
    ) -> None:
        write_script("001_quick.sql", "create table quick (id int);")
        write_script("002_slow.sql", SLOW[database.kind])
        process = start(*MODULE, "apply", "--format", "json")
        deadline = time.monotonic() + 20
        while "quick" not in database.tables() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=20)
        assert process.returncode == 143
        assert [entry["version"] for entry in json.loads(stdout)["completed"]] == ["001"]

    def test_stop_the_wait_for_the_lock(
        self, start: Callable[..., subprocess.Popen[str]], write_script: Write, database: Database
    ) -> None:
        write_script("001_slow.sql", SLOW[database.kind])
        holder = start(*MODULE, "apply")
        time.sleep(2)
        waiter = start(*MODULE, "apply")
        assert waiter.stderr is not None
        assert "Waiting for another migration run to finish" in waiter.stderr.readline()
        waiter.send_signal(signal.SIGINT)
        assert waiter.wait(10) == 130
        holder.send_signal(signal.SIGTERM)
        assert holder.wait(10) == 143
        assert database.own_tables() == set()


class Terminal:
    """A program on a pseudo-terminal of 80 columns."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.shown = ""

    def until(self, text: str) -> None:
        """Wait until `text` is on the screen."""
        deadline = time.monotonic() + 30
        while text not in self.plain():
            assert time.monotonic() < deadline, f"{text!r} never came; shown was {self.shown!r}"
            if not self._read():
                break
        assert text in self.plain()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, once the program sits and reads."""
        time.sleep(0.5)
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for the program's end and return its exit code."""
        while self._read():
            pass
        return self._process.wait(30)

    def close(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def plain(self) -> str:
        """What was shown, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 30)[0]:
            return False
        with suppress(OSError):  # Linux says EIO when the program is gone
            data = os.read(self._master, 65536)
            self.shown += data.decode(errors="replace").replace("\r\n", "\n")
            return bool(data)
        return False


@pytest.mark.usefixtures("app_file")
class TestTerminal:
    @pytest.fixture
    def open_terminal(self, environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
        opened: list[Terminal] = []

        def call(*command: str, **variables: str) -> Terminal:
            opened.append(Terminal(list(command), tmp_path, {**environment, **variables}))
            return opened[-1]

        yield call
        for terminal in opened:
            terminal.close()

    @pytest.fixture
    def three(self, write_script: Write) -> None:
        for number in (1, 2, 3):
            down = f"-- migrate:down\ndrop table t{number};\n"
            write_script(f"{number:03}_t.sql", f"-- migrate:up\ncreate table t{number} (id int);\n{down}")

    @pytest.mark.usefixtures("three")
    def test_apply_and_status_are_drawn(self, open_terminal: Callable[..., Terminal]) -> None:
        terminal = open_terminal(*MODULE, "apply")
        assert terminal.end() == 0
        assert "✓ applied 001_t" in terminal.plain()
        assert "Applied 3 migrations to " in terminal.plain()
        assert "\x1b[" in terminal.shown
        status = open_terminal(*MODULE, "status")
        assert status.end() == 0
        assert "The database is up to date: 3 migrations applied." in status.plain()
        assert "\x1b[32mapplied" in status.shown
        assert max(map(len, status.plain().splitlines()[3:])) <= 80

    @pytest.mark.usefixtures("three")
    def test_no_color_is_respected(self, open_terminal: Callable[..., Terminal]) -> None:
        for words in (["status"], ["apply", "--target", "77"]):
            terminal = open_terminal(*MODULE, *words, NO_COLOR="1")
            terminal.end()
            assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.shown)

    @pytest.mark.usefixtures("three")
    def test_a_dumb_terminal_gets_plain_text(self, open_terminal: Callable[..., Terminal]) -> None:
        terminal = open_terminal(*MODULE, "apply", TERM="dumb")
        assert terminal.end() == 0
        assert "\x1b" not in terminal.shown
        assert terminal.shown.startswith("applied 001_t")

    @pytest.mark.usefixtures("three")
    def test_staging_asks_and_a_no_changes_nothing(
        self, open_terminal: Callable[..., Terminal], run: Run, database: Database
    ) -> None:
        staging = {"TEST_DB_MIGRATE_ENVIRONMENT": "staging"}
        assert run(*MODULE, "apply", **staging).returncode == 0
        for answer in ("n\n", "\n", "\x04"):
            terminal = open_terminal(*MODULE, "rollback", "--target", "001", **staging)
            terminal.until("[y/N]")
            assert "To roll back, in this order:\n  003_t\n  002_t\n" in terminal.plain()
            terminal.type(answer)
            assert terminal.end() == 1
            assert "Nothing was changed." in terminal.plain()
        assert len(database.own_tables()) == 3
        terminal = open_terminal(*MODULE, "rollback", "--target", "001", **staging)
        terminal.until("[y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
        assert database.own_tables() == {"t1"}

    @pytest.mark.usefixtures("three")
    def test_production_wants_the_database_s_name(
        self, open_terminal: Callable[..., Terminal], run: Run, database: Database
    ) -> None:
        production = {"TEST_DB_MIGRATE_ENVIRONMENT": "production"}
        assert run(*MODULE, "apply", **production).returncode == 0
        name = Path(sa.make_url(database.url).database or "").name
        for answer, code in (("yes", 1), (name, 0)):
            assert len(database.own_tables()) == 3
            terminal = open_terminal(*MODULE, "rollback", **production)
            terminal.until("Type the database's name")
            terminal.type(f"{answer}\n")
            assert terminal.end() == code
        assert database.own_tables() == set()

    @pytest.mark.usefixtures("three")
    def test_ctrl_c_at_the_question(self, open_terminal: Callable[..., Terminal], run: Run, database: Database) -> None:
        staging = {"TEST_DB_MIGRATE_ENVIRONMENT": "staging"}
        assert run(*MODULE, "apply", **staging).returncode == 0
        terminal = open_terminal(*MODULE, "rollback", **staging)
        terminal.until("[y/N]")
        terminal.interrupt()
        assert terminal.end() == 130
        assert len(database.own_tables()) == 3
        assert "Traceback" not in terminal.plain()

    def test_a_failure_under_the_moving_display(
        self, open_terminal: Callable[..., Terminal], write_script: Write
    ) -> None:
        write_script("001_a.sql", "create table a (id int);\nselect * from nowhere;\n")
        terminal = open_terminal(*MODULE, "apply")
        assert terminal.end() == 1
        assert "Error: Migration 001_a did not apply: " in terminal.plain()
        assert "What now?" in terminal.plain()


class TestCompletion:
    """What the Tab key offers; it must never change anything."""

    @staticmethod
    def complete(run: Run, words: str) -> list[str]:
        """What bash would be offered after `words` and a blank."""
        flask = str(Path(sys.executable).parent / "flask")
        result = run(flask, _FLASK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split())))
        assert result.stderr == ""
        return [line.partition(",")[2] for line in result.stdout.split()]

    @pytest.mark.usefixtures("app_file")
    def test_targets(self, run: Run, write_script: Write, database: Database) -> None:
        write_script("001_a.sql", "create table a (id int);")
        write_script("002_b.sql", "create table b (id int);")
        run(*MODULE, "apply", "--target", "1")
        assert self.complete(run, "flask db-migrate apply --target") == ["002"]
        assert self.complete(run, "flask db-migrate rollback --target") == ["001"]
        assert self.complete(run, "flask db-migrate apply --env") == [
            "development",
            "testing",
            "staging",
            "production",
        ]
        assert database.own_tables() == {"a"}

    def test_an_app_that_does_not_load_offers_nothing(self, run: Run, app_file: Path) -> None:
        app_file.write_text("raise ValueError")
        assert self.complete(run, "flask db-migrate apply --target") == []
