"""A harness of real processes: an app in a folder, migrations that leave countable traces, kills at any instant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ..conftest import ROOT, Database

_APP = """
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from cryoprotect.migrations_ext import Migrations

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {{"poolclass": sa.NullPool}}
app.config["DB_MIGRATE_ENVIRONMENT"] = {environment!r}
db = SQLAlchemy(app)
Migrations(db).init_app(app)
"""


@dataclass
class Site:
    """A folder with an app and scripts, and the processes started in it."""

    folder: Path
    database: Database
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def scripts(self) -> Path:
        return self.folder / "migration_scripts"

    def write_app(self, environment: str = "development") -> None:
        text = _APP.format(url=self.database.url, environment=environment)
        (self.folder / "app.py").write_text(text, encoding="utf-8")

    def write_traces(self, count: int, *, pause: float = 0.0) -> None:
        """Migrations whose every run leaves one row; `pause` seconds lie between the two halves of each."""
        for number in range(1, count + 1):
            first = "conn.sql('create table traces (version integer)').execute()" if number == 1 else "pass"
            last = "conn.sql('drop table traces').execute()" if number == 1 else "pass"
            (self.scripts / f"{number:03}_trace.py").write_text(
                "import time\n"
                "def apply(conn, environment):\n"
                f"    {first}\n"
                f"    conn.sql('create table t{number} (id integer)').execute()\n"
                f"    time.sleep({pause})\n"
                f"    conn.sql('insert into traces values ({number})').execute()\n"
                "def rollback(conn, environment):\n"
                f"    conn.sql('drop table t{number}').execute()\n"
                f"    time.sleep({pause})\n"
                f"    conn.sql('delete from traces where version = {number}').execute()\n"
                f"    {last}\n",
                encoding="utf-8",
            )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `db-migrate` with these words, in a session of its own so that a kill hits it alone."""
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-m", "cryoprotect.migrations_ext", "--app", "app", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `db-migrate` to its end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=90)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def traces(self) -> list[int]:
        """What the migrations left, in order."""
        if "traces" not in self.database.tables():
            return []
        return [v for (v,) in self.database.query("select version from traces order by version")]

    def recorded(self) -> list[int]:
        """Versions with a row, in the order in which they were written."""
        if "migrations" not in self.database.tables():
            return []
        return [int(v) for (v,) in self.database.query("select version from migrations order by id")]


@pytest.fixture
def site(tmp_path: Path, database: Database) -> Iterator[Site]:
    folder = tmp_path / "site"
    (folder / "migration_scripts").mkdir(parents=True)
    found = Site(folder, database)
    found.write_app()
    yield found
    for process in found.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
