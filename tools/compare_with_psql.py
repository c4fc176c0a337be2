#!/usr/bin/env python3
"""Run a folder of SQL migrations with db-migrate and with psql, each on a database of its own, and tell any difference.

    python tools/compare_with_psql.py migrations postgresql://user:password@host/postgres

The files are applied in order of their numbers: once by `flask db-migrate apply --dir` in a process of its own, once
file by file by `psql -X -v ON_ERROR_STOP=1 --single-transaction -f` (without --single-transaction where a file is
declared non-transactional; of a file with `-- migrate:up` and `-- migrate:down` psql gets the part alone). Then
everything is rolled back the same two ways, from the newest down to the first rollback part that is missing or fails.

At every stop and at the end both databases are dumped and compared: schema, rows, values of sequences, settings,
invalid indexes; all but db-migrate's own tables. Where one stops, the other has to stop at the same file, for the same
reason, with the same database. With --skip-failing a file at which both stop is set aside, in a copy, and both go on.

Your files are only read. The two databases are made for the comparison and always dropped; what belongs to the whole
server (roles, tablespaces) is not theirs alone: where files create roles, name a second server with --psql-server.

Exit code: 0 both do the same; 1 they do not; 2 the comparison cannot be made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from snapshot import Comparison, Difference, Objects, compare, parse

import cryoprotect
from cryoprotect.migrations_ext import discovery
from cryoprotect.migrations_ext.errors import MigrationError
from cryoprotect.migrations_ext.model import Direction, Kind, Migration

LINES_OF_A_DIFFERENCE = 30
NO_PART = "there is no rollback part"


def main(argv: Sequence[str] | None = None) -> int:
    """Compare as the command line says, print the report and return the exit code."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _leave)
    try:
        with ExitStack() as stack:
            report = _compare(options, stack)
    except CannotCompareError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print("\n".join(report.lines()))
    return 0 if report.is_equal else 1


class CannotCompareError(Exception):
    """Raised when the comparison itself cannot be made: no server, no psql, no SQL files."""


def _parser() -> argparse.ArgumentParser:
    description, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="the SQL migrations")
    add("url", help="a PostgreSQL server where databases can be made: postgresql://user:password@host:port/postgres")
    add("--skip-failing", action="store_true", help="set aside, in a copy, what fails with both, and go on")
    add("--apply-only", action="store_true", help="do not roll back afterwards")
    add("--env", default="development", help="environment to run for (default: development)")
    add("--table", default="migrations", help="db-migrate's tracking table, where yours has that name")
    add("--psql-server", metavar="URL", help="another server of the same version for psql's database")
    add("--psql", default="psql", metavar="PATH", help="psql, at least of the server's version")
    add("--pg-dump", default="pg_dump", metavar="PATH", help="pg_dump, at least of the server's version")
    return parser


def _leave(_signal: int, _frame: object) -> NoReturn:
    """Let `finally` drop the databases when somebody stops the comparison."""
    sys.exit(143)


def _compare(options: argparse.Namespace, stack: ExitStack) -> Report:
    client = Client(options.psql, options.pg_dump)
    server = Server(_url(options.url), client)
    other = Server(_url(options.psql_server), client) if options.psql_server else server
    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
    folder = Folder(options.folder, work / "copy", work / "parts", options.env)
    stem = f"compare_{secrets.token_hex(4)}"
    ours = stack.enter_context(server.database(f"{stem}_ours"))
    theirs = stack.enter_context(other.database(f"{stem}_psql"))
    engine = Engine(ours, folder.copy, work, options.env, options.table)
    trial = Trial(folder, engine, ours, theirs, skip_failing=options.skip_failing)
    trial.apply()
    if not options.apply_only and not trial.report.gave_up:
        trial.roll_back()
    return trial.report


def _url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise CannotCompareError("The server's URL cannot be read: postgresql://user:password@host:port/db.") from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise CannotCompareError(f"psql speaks to PostgreSQL alone, and this URL is for {url.get_backend_name()}.")
    return url


# --- the trial --------------------------------------------------------------------------------------------------------


class Trial:
    """Both ways through the folder, in step: db-migrate goes ahead to its next stop, psql follows."""

    def __init__(self, folder: Folder, engine: Engine, ours: Database, theirs: Database, *, skip_failing: bool) -> None:
        self.folder = folder
        self.engine = engine
        self.ours = ours
        self.theirs = theirs
        self.skip_failing = skip_failing
        self.applied: list[Script] = []
        self.aside: set[int] = set()
        """Numbers that db-migrate no longer has, because they were taken out of the copy."""
        self.report = Report(folder)

    def apply(self) -> None:
        """Apply everything, or up to the first stop."""
        self._set_problems_aside()
        refused: dict[int, str] = {}
        while True:
            outcome = self.engine.run("apply")
            stop = outcome.stop
            if stop is not None and not stop.ran:
                script = self._script(stop)
                refused[script.number] = stop.reason
                self._set_aside(script)
                continue
            until = self._script(stop).number if stop else None
            for script in self.folder.between(self.applied, until):
                if script.number in refused:
                    self._refused(script, Direction.APPLY, refused.pop(script.number))
                elif script.version in outcome.done:
                    if not self._both(script, Direction.APPLY):
                        return
                    self.applied.append(script)
                elif script.number not in self.aside:
                    self.report.differ(f"apply {script.label}", "db-migrate passes it over")
            if stop is not None:
                self._stopped(self._script(stop), Direction.APPLY, stop.reason)
            self._compare_databases("apply", stop)
            if stop is None or not self.skip_failing or self.report.gave_up:
                return
            self._set_aside(self._script(stop), forget=not self._script(stop).apply.transactional)

    def roll_back(self) -> None:
        """Roll back everything that both applied, or down to the first stop."""
        while True:
            outcome = self._rollback_as_far_as_possible()
            stop = outcome.stop
            above = [script for script in self.applied if stop is None or script.number > self._script(stop).number]
            for script in reversed(above):
                if script.version not in outcome.done:
                    self.report.differ(f"rollback {script.label}", "db-migrate passes it over")
                elif not self._both(script, Direction.ROLLBACK):
                    return
                self.applied.remove(script)
            if stop is not None and stop.ran:
                self._stopped(self._script(stop), Direction.ROLLBACK, stop.reason)
            elif stop is not None:
                self._refused(self._script(stop), Direction.ROLLBACK, stop.reason)
            if outcome.done or stop is None or stop.ran:
                self._compare_databases("rollback", stop)
            if stop is None or not self.skip_failing or self.report.gave_up:
                return
            script = self._script(stop)
            self.applied = [other for other in self.applied if other is not script]
            self._set_aside(script, forget=True)

    def _rollback_as_far_as_possible(self) -> Outcome:
        """Do what db-migrate advises where it refuses a rollback before it starts: stop above what it names."""
        outcome = first = self.engine.run("rollback")
        while outcome.stop is not None and not outcome.stop.ran:
            first = outcome
            script = self._script(outcome.stop)
            if not self.applied or script is self.applied[-1]:
                return outcome
            outcome = self.engine.run("rollback", "--target", script.version)
        return outcome if outcome.stop else Outcome(outcome.done, first.stop)

    def _both(self, script: Script, direction: Direction) -> bool:
        """Let psql follow; whether it did. Where it does not, the two have parted and there is no going on."""
        said = self.theirs.run(script.part(direction))
        if said is None:
            self.report.done[direction] += 1
            return True
        self.report.differ(f"{direction} {script.label}", f"db-migrate runs it, psql stops: {said}")
        self.report.gave_up = True
        return False

    def _stopped(self, script: Script, direction: Direction, ours: str) -> None:
        """A file failed with db-migrate: see whether it does with psql."""
        part = script.part(direction)
        said = self.theirs.rehearse(part)
        if said is None:
            self.report.differ(f"{direction} {script.label}", f"psql runs it, db-migrate stops: {ours}")
            self.report.gave_up = not part.transactional  # what db-migrate did of it stays, and psql has done it all
            return
        self.theirs.run(part)  # what a failure leaves behind counts: statements without a transaction, sequences
        stopped = Stopped(direction, script.label, said, ours)
        self.report.stops.append(stopped)
        if not stopped.is_for_one_reason:
            self.report.differ(f"{direction} {script.label}", "both stop, and for different reasons")

    def _refused(self, script: Script, direction: Direction, reason: str) -> None:
        """db-migrate did not even start this file: see what psql would have made of it."""
        part = script.part(direction)
        said = self.theirs.rehearse(part) if part.exists else NO_PART
        if said is None:
            self.report.refused.append(f"{script.label}: {reason}")
        else:
            self.report.stops.append(Stopped(direction, script.label, said, reason))

    def _set_problems_aside(self) -> None:
        """Files that cannot be migrations stop every command: that is seen, and told, and only then are they moved."""
        problems = self.folder.problems()
        if not problems:
            return
        outcome = self.engine.run("apply")
        if outcome.done or outcome.stop is None or outcome.stop.ran:
            self.report.differ("apply", "db-migrate ran something although there are files that cannot be migrations")
        for problem in problems:
            self.folder.remove(problem.paths)
            self.report.refused.append(problem.message)
        if not self.skip_failing:
            first = min(problem.number for problem in problems)
            for script in self.folder.scripts:
                if script.number >= first:
                    self.folder.remove(script.paths)
        self.folder.rescan()

    def _set_aside(self, script: Script, *, forget: bool = False) -> None:
        """Take a script away, its row too where it has one; without --skip-failing all that comes after it."""
        if forget:
            self.engine.forget(script)
        for other in self.folder.scripts:
            if other is script or (other.number > script.number and not self.skip_failing):
                self.folder.remove(other.paths)
                self.aside.add(other.number)

    def _compare_databases(self, where: str, stop: Stop | None) -> None:
        if stop is not None:
            where += f", stopped at {stop.version}"
        found = compare(self.ours.objects(self.engine.tables), self.theirs.objects(()), "db-migrate", "psql")
        self.report.compared(where, found)

    def _script(self, stop: Stop) -> Script:
        for script in self.folder.scripts:
            if script.version == stop.version:
                return script
        raise CannotCompareError(f"db-migrate does not run: {stop.reason}")


@dataclass(frozen=True, slots=True)
class Stopped:
    """A file at which both stopped."""

    direction: Direction
    label: str
    psql: str
    ours: str

    @property
    def is_for_one_reason(self) -> bool:
        """Whether both stopped for the same reason; of several lines psql's first is known."""
        return self.psql == NO_PART or _essence(self.ours).startswith(_essence(self.psql))


@dataclass(slots=True)
class Report:
    """What the comparison found."""

    folder: Folder
    done: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(Direction, 0))
    stops: list[Stopped] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What db-migrate does not run and psql would, or was not asked to."""
    differences: list[Difference] = field(default_factory=list)
    of_the_moment: set[str] = field(default_factory=set)
    comparisons: int = 0
    gave_up: bool = False
    """Whether the two parted, so that nothing after it can be compared."""
    _seen: set[Difference] = field(default_factory=set)
    """What two databases differ in stays different: it is told where it was met first."""

    @property
    def is_equal(self) -> bool:
        """Whether db-migrate did what psql did, all the way."""
        return not self.differences and not self.refused

    def differ(self, title: str, *detail: str) -> None:
        """Note a difference."""
        self.differences.append(Difference(title, detail))

    def compared(self, where: str, found: Comparison) -> None:
        """Note what a comparison of the two databases brought."""
        self.comparisons += 1
        self.of_the_moment.update(found.of_the_moment)
        new = [d for d in found.differences if d not in self._seen]
        self._seen.update(new)
        self.differences += [Difference(f"{where}: {d.title}", d.detail) for d in new]

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield self.folder.summary()
        yield f"Applied by both: {self.done[Direction.APPLY]}. Rolled back by both: {self.done[Direction.ROLLBACK]}."
        yield f"Databases compared: {_count(self.comparisons, 'time')}."
        for stop in self.stops:
            yield f"Both stop at {stop.label} ({stop.direction}): {stop.psql}"
            if not stop.is_for_one_reason:
                yield f"  db-migrate: {stop.ours}"
        for reason in self.refused:
            yield f"Only db-migrate refuses {reason}"
        if self.of_the_moment:
            yield f"Different in times of the run and random UUIDs alone: {', '.join(sorted(self.of_the_moment))}"
        for difference in self.differences:
            yield f"DIFFERENT {difference.title}"
            shown = difference.detail[:LINES_OF_A_DIFFERENCE]
            yield from (f"  {line}" for line in shown)
            if len(shown) < len(difference.detail):
                yield f"  … {len(difference.detail) - len(shown)} more lines"
        if self.is_equal:
            yield "Equal."
        else:
            yield f"Not equal: {_count(len(self.differences), 'difference')}, {_count(len(self.refused), 'refusal')}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _essence(reason: str) -> str:
    """The server's own words in a reason, without numbers, which may be identifiers of objects."""
    words = reason.partition("ERROR:")[2] or reason
    return re.sub(r"\d+", "0", " ".join(words.split()).strip(". "))


# --- the files --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What psql gets for one direction of a migration."""

    path: Path
    transactional: bool
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Script:
    """One migration with the files that psql runs for it."""

    migration: Migration
    apply: Part
    rollback: Part

    @property
    def number(self) -> int:
        return self.migration.number

    @property
    def version(self) -> str:
        return self.migration.version

    @property
    def label(self) -> str:
        return self.migration.label

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files in the copy that make this migration."""
        paths = (self.migration.apply_path, self.migration.rollback_path)
        return tuple(path for path in paths if path is not None)

    def part(self, direction: Direction) -> Part:
        return self.apply if direction is Direction.APPLY else self.rollback


@dataclass(frozen=True, slots=True)
class BadFiles:
    """Files because of which db-migrate runs nothing at all."""

    paths: tuple[Path, ...]
    message: str
    number: int


_MARKER = re.compile(rb"^[ \t]*--[ \t]*migrate:[ \t]*(up|down)\b[^\n]*\n?", re.MULTILINE)


class Folder:
    """The user's files: a copy that db-migrate works on, and the parts that psql gets."""

    def __init__(self, original: Path, copy: Path, parts: Path, environment: str) -> None:
        if not original.is_dir():
            raise CannotCompareError(f"{original} is no folder.")
        copy_scripts(original, copy)
        parts.mkdir()
        self.original = original
        self.copy = copy
        self._parts = parts
        self._environment = environment
        self.scripts: tuple[Script, ...] = ()
        self.others: tuple[str, ...] = ()
        """What db-migrate lists as looking like a script and being none, in words."""
        self.skipped: tuple[str, ...] = ()
        """Migrations for other environments."""
        self.rescan()

    def rescan(self) -> None:
        """Look again at what is in the copy."""
        directory = discovery.scan(self.copy)
        readable = [m for m in map(_read, directory.migrations) if m is not None]
        python = [m.label for m in readable if m.kind is Kind.PYTHON]
        if python:
            raise CannotCompareError(f"{python[0]} is written in Python, which psql cannot run: compare SQL files.")
        mine = [m for m in readable if self._is_for_here(m)]
        self.scripts = tuple(map(self._script, mine))
        self.skipped = tuple(m.label for m in readable if m not in mine)
        self.others = tuple(p.message for p in directory.problems if not p.blocking)

    def problems(self) -> list[BadFiles]:
        """Files that cannot be migrations, and why; of files that share a number all but the first migration."""
        directory = discovery.scan(self.copy)
        found = [BadFiles(_all_but_first(p.paths), p.message, p.number or 0) for p in directory.problems if p.blocking]
        for migration in directory.migrations:
            try:
                discovery.read(migration)
            except MigrationError as error:
                found.append(BadFiles((migration.apply_path,), error.message, migration.number))
        return found

    def between(self, done: Sequence[Script], until: int | None) -> Iterator[Script]:
        """The scripts behind those that are done, up to a number and without it."""
        start = done[-1].number if done else -1
        return (s for s in self.scripts if s.number > start and (until is None or s.number < until))

    def remove(self, paths: Iterable[Path]) -> None:
        """Take files out of the copy, and a migration's folder with them."""
        for path in paths:
            folder = path if path.is_dir() else path.parent
            if folder != self.copy:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def summary(self) -> str:
        """One line on what was compared."""
        reversible = sum(s.rollback.exists for s in self.scripts)
        outside = sum(not s.apply.transactional for s in self.scripts)
        line = f"{len(self.scripts)} migrations in {self.original}: {reversible} with a rollback part, "
        line += f"{outside} without a transaction."
        if self.skipped:
            line += f" Not for this environment: {', '.join(self.skipped)}."
        return "\n".join([line, *(f"Not run: {message}" for message in self.others)])

    def _is_for_here(self, migration: Migration) -> bool:
        labels = migration.header.environments if migration.header else None
        return labels is None or self._environment in labels

    def _script(self, migration: Migration) -> Script:
        """The files for psql. Cut here, by other lines of code than db-migrate's, so that a wrong cut would show."""
        header = migration.header
        assert header is not None
        apply, down = migration.apply_path, migration.rollback_path
        apply_text, rollback_text = _cut(apply.read_bytes()) if down is None else (apply.read_bytes(), None)
        rollback = self._parts / f"{migration.version}.down.sql"
        if down is not None:
            shutil.copyfile(down, rollback)
        elif rollback_text is not None:
            rollback.write_bytes(rollback_text)
        up = self._parts / f"{migration.version}.up.sql"
        up.write_bytes(apply_text)
        return Script(
            migration,
            Part(up, header.transactional),
            Part(rollback, header.rollback_transactional, exists=down is not None or rollback_text is not None),
        )


def copy_scripts(original: Path, copy: Path) -> None:
    """Copy the user's files to where db-migrate gets them."""
    shutil.copytree(original, copy, symlinks=True)


def _read(migration: Migration) -> Migration | None:
    """With its header; None for a file that cannot be read, which `Folder.problems` tells."""
    try:
        return discovery.read(migration)
    except MigrationError:
        return None


def _cut(text: bytes) -> tuple[bytes, bytes | None]:
    """Apply part and rollback part of a file, by dbmate's markers; without any, all of it is the apply part."""
    apply: bytes = text
    rollback: bytes | None = None
    for marker, following in pairwise([*_MARKER.finditer(text), None]):
        assert marker is not None
        part = text[marker.end() : following.start() if following else len(text)]
        if marker[1] == b"up":
            apply = part
        else:
            rollback = part
    return apply, rollback


def _all_but_first(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The paths without those of the first migration among them: `a.up.sql` and `a.down.sql` belong together."""
    stems = [re.sub(r"(\.up|\.down)?\.sql$", "", str(path)) for path in paths]
    return tuple(path for path, stem in zip(paths, stems, strict=True) if stem != stems[0] or len(set(stems)) == 1)


# --- db-migrate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stop:
    """Where db-migrate stopped."""

    version: str | None
    reason: str
    ran: bool
    """Whether the file failed while it ran; else it was refused before anything ran."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command of db-migrate did."""

    done: frozenset[str]
    stop: Stop | None


_APP = """
import os
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from cryoprotect.migrations_ext import Migrations

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["COMPARE_URL"]
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"poolclass": sa.NullPool}
app.config["DB_MIGRATE_TABLE"] = os.environ["COMPARE_TABLE"]
db = SQLAlchemy(app)
Migrations(db).init_app(app)
"""


class Engine:
    """db-migrate as a user runs it: the command, in a process of its own, with a small app."""

    def __init__(self, database: Database, folder: Path, work: Path, environment: str, table: str) -> None:
        (work / "compare_app.py").write_text(_APP, encoding="utf-8")
        self._database = database
        self._folder = folder
        self._work = work
        self._environment = environment
        self._table = table
        tables = (table, f"{table}_journal", f"{table}_texts")
        self.tables = (*tables, *(f"{name}_id_seq" for name in tables))

    def run(self, command: str, *words: str) -> Outcome:
        """Run `apply` or `rollback`, and return how far it came."""
        process = subprocess.run(
            [
                *(sys.executable, "-m", "cryoprotect.migrations_ext", "--app", "compare_app", command, *words),
                *("--dir", str(self._folder), "--env", self._environment, "--format", "json"),
                *(["--yes"] if command == "rollback" else []),
            ],
            cwd=self._work,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([*_package_parents(), os.environ.get("PYTHONPATH", "")]),
                "COMPARE_URL": self._database.app_url,
                "COMPARE_TABLE": self._table,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            document = json.loads(process.stdout)
        except ValueError:
            said = process.stderr.strip().splitlines()
            raise CannotCompareError(f"db-migrate gave no answer: {said[-1] if said else process.returncode}") from None
        return _outcome(document)

    def forget(self, script: Script) -> None:
        """Remove a migration's row, as somebody would who settled it by hand."""
        self._database.query(f"DELETE FROM \"{self._table}\" WHERE version = '{script.version}'")


def _outcome(document: Any) -> Outcome:
    if isinstance(document, list):
        return Outcome(frozenset(entry["version"] for entry in document), None)
    failed = document["failed"] or {}
    reason = failed.get("message") or document["error"]["message"]
    ran = document["error"]["type"] == "MigrationFailed"
    done = frozenset(entry["version"] for entry in document["completed"])
    return Outcome(done, Stop(failed.get("version"), " ".join(reason.split()), ran))


def _package_parents() -> list[str]:
    """Where our package lies, for a child process that starts elsewhere."""
    return [str(Path(folder).parent) for folder in cryoprotect.__path__]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Client:
    """PostgreSQL's own programs."""

    psql: str
    pg_dump: str

    def call(self, program: str, url: sa.URL, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of them; the password goes by the environment, where other users do not see it."""
        bare = sa.URL.create(
            "postgresql", url.username, None, url.host, url.port, url.database, url.query
        ).render_as_string()
        environment = {**os.environ, "PGCLIENTENCODING": "UTF8"}
        if url.password is not None:
            environment["PGPASSWORD"] = str(url.password)
        try:
            return subprocess.run(
                [program, *words, "-d", bare],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            hint = "Name it with --psql or --pg-dump."
            raise CannotCompareError(f"{program} cannot be run: {error.strerror}. {hint}") from error


@dataclass(frozen=True, slots=True)
class Server:
    """A server on which databases can be made."""

    url: sa.URL
    client: Client

    @contextmanager
    def database(self, name: str, template: str = "template0") -> Iterator[Database]:
        """Make a database, and drop it in the end whatever happens."""
        whole = Database(self, self.url)
        whole.query(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield Database(self, self.url.set(database=name))
        finally:
            whole.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


_BEYOND_THE_DUMP = """
SELECT 'invalid index ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid
UNION ALL
SELECT 'setting ' || coalesce(setrole::regrole::text, '') || ' ' || unnest(setconfig)
FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Database:
    """One database: what psql does in it, and what is in it."""

    server: Server
    url: sa.URL

    @property
    def app_url(self) -> str:
        """The URL for an app's configuration, password and all."""
        return self.url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)

    def run(self, part: Part) -> str | None:
        """Run a file as psql runs migrations; return what psql said when it stopped, else None."""
        one = ["--single-transaction"] if part.transactional else []
        found = self._psql("-q", "-v", "ON_ERROR_STOP=1", *one, "-f", str(part.path))
        return None if found.returncode == 0 else _complaint(found)

    def rehearse(self, part: Part) -> str | None:
        """Do the same in a copy of this database."""
        name = f"compare_{secrets.token_hex(4)}_probe"
        with self.server.database(name, template=str(self.url.database)) as probe:
            return probe.run(part)

    def query(self, sql: str) -> list[str]:
        """Run one statement and return its rows as text."""
        found = self._psql("-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql)
        if found.returncode != 0:
            raise CannotCompareError(f"psql: {_complaint(found)}")
        return found.stdout.splitlines()

    def objects(self, without: Iterable[str]) -> Objects:
        """Everything in the database but the tables `without`."""
        excluded = [f'--exclude-table="{name}"' for name in without]
        found = self.server.client.call(self.server.client.pg_dump, self.url, *excluded)
        if found.returncode != 0:
            raise CannotCompareError(f"pg_dump: {_complaint(found)}")
        return {**parse(found.stdout), "BEYOND THE DUMP": tuple(self.query(_BEYOND_THE_DUMP))}

    def _psql(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.server.client.call(self.server.client.psql, self.url, "-X", *words)


def _complaint(process: subprocess.CompletedProcess[str]) -> str:
    """The line of stderr that says what went wrong."""
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(?:ERROR|FATAL|PANIC|error|fatal):", line)]
    said = (errors or lines or [f"exit code {process.returncode}"])[0]
    return re.sub(r"^psql:\S*?([^/\s]+?:\d+): ", r"\1: ", said)


if __name__ == "__main__":
    sys.exit(main())
