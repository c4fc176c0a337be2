"""The journal: append-only events. A run and its state are computed from its events and the lock, never stored."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .dialects import Dialect, Write
from .dialects.base import Place, storable
from .model import Direction, HistoryEntry, RunSummary, Source, StepRecord
from .settings import Settings

_RAW = {"no_parameters": True}
_TEXT_LIMIT = 1024 * 1024

RUN_STARTED = "run_started"
STEP_STARTED = "step_started"
STEP_FINISHED = "step_finished"
STEP_FAILED = "step_failed"
STEP_WAITING = "waiting"
RUN_FINISHED = "run_finished"
ENVIRONMENT_SET = "environment_set"
RECORDED = "recorded"
REMOVED = "removed"

_COLUMNS = (
    "run_id", "sequence", "event", "version", "direction", "outcome", "statement", "error", "actor", "host", "pid",
    "source", "environment", "git_commit", "checksum", "detail",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, from where: the same in every event of a run."""

    actor: str
    source: Source
    environment: str
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    git_commit: str | None = None


class Journal:
    """Makes the statements that write events, and reads runs back; sends no write by itself."""

    def __init__(self, dialect: Dialect, settings: Settings) -> None:
        self._dialect = dialect
        self._settings = settings

    def exists(self, connection: sa.Connection, place: Place) -> bool:
        """Whether the journal's tables are there."""
        return self._dialect.has_table(connection, self._settings.journal_table, place.schema)

    def create(self, place: Place) -> list[Write]:
        """Return what makes the journal and the table of executed texts."""
        d, name = self._dialect, self._settings.journal_table
        table, texts = self._table(place), self._texts(place)
        return [
            Write(
                f"CREATE TABLE {table} (id {d.serial.replace('serial', 'bigserial')}, run_id varchar(32) NOT NULL,"
                " sequence integer NOT NULL, event varchar(30) NOT NULL, version varchar(50),"
                " direction varchar(10), outcome varchar(20), statement integer, error text, actor varchar(255),"
                " host varchar(255), pid integer, source varchar(10), environment varchar(50),"
                f" git_commit varchar(64), checksum varchar(64), detail text, at {d.timestamp} NOT NULL DEFAULT"
                f" {'clock_timestamp()' if d.name == 'postgresql' else d.now})"
            ),
            Write(f'CREATE UNIQUE INDEX "{name}_run_idx" ON {table} (run_id, sequence)'),
            Write(f'CREATE INDEX "{name}_event_idx" ON {table} (event, id)'),
            Write(f"CREATE TABLE {texts} (checksum varchar(64) PRIMARY KEY, size bigint NOT NULL, text text)"),
        ]

    def event(
        self,
        place: Place,
        author: Author,
        run_id: str,
        sequence: int,
        event: str,
        *,
        version: str | None = None,
        direction: Direction | None = None,
        outcome: str | None = None,
        statement: int | None = None,
        error: str | None = None,
        checksum: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Write:
        """Return the INSERT of one event; `detail` is stored as JSON."""
        values = (
            run_id, sequence, event, version, direction.value if direction else None, outcome, statement,
            storable(error) if error is not None else None,
            storable(author.actor)[:255], author.host, author.pid, author.source.value, author.environment,
            author.git_commit, checksum, json.dumps(detail) if detail else None,
        )  # fmt: skip
        return Write(self._insert(place), values)

    def text(self, place: Place, checksum: str, text: str) -> Write:
        """Return the INSERT that keeps an executed text once per checksum; above 1 MiB only its size is kept."""
        mark = self._dialect.placeholder
        size = len(text.encode())
        return Write(
            f"INSERT INTO {self._texts(place)} (checksum, size, text) VALUES ({mark}, {mark}, {mark})"
            " ON CONFLICT (checksum) DO NOTHING",
            (checksum, size, text if size <= _TEXT_LIMIT else None),
        )

    def environment(self, connection: sa.Connection, place: Place) -> str | None:
        """Return the environment that the database remembers: the journal's last word on it."""
        return self._scalar(
            connection,
            f"SELECT environment FROM {self._table(place)} WHERE event = '{ENVIRONMENT_SET}' ORDER BY id DESC LIMIT 1",
        )

    def last_errors(self, connection: sa.Connection, place: Place) -> dict[str, str]:
        """Return, per version whose newest step failed, what it said."""
        rows = connection.exec_driver_sql(
            f"SELECT version, error FROM {self._table(place)} WHERE id IN (SELECT max(id) FROM {self._table(place)}"
            f" WHERE event IN ('{STEP_FINISHED}', '{STEP_FAILED}') GROUP BY version) AND event = '{STEP_FAILED}'",
            execution_options=_RAW,
        )
        return {version: error or "" for version, error in rows}

    def last_run(self, connection: sa.Connection, place: Place, *, running: bool) -> RunSummary | None:
        """Return the newest run; `running` says whether the lock is held, which tells under way from interrupted."""
        run_id = self._scalar(
            connection,
            f"SELECT run_id FROM {self._table(place)} WHERE event = '{RUN_STARTED}' ORDER BY id DESC LIMIT 1",
        )
        if run_id is None:
            return None
        rows = connection.exec_driver_sql(
            "SELECT event, version, direction, outcome, error, actor, source, host, pid, at"
            f" FROM {self._table(place)} WHERE run_id = '{run_id}' ORDER BY sequence",
            execution_options=_RAW,
        ).all()
        return self._summary(run_id, rows, running=running)

    def entries(
        self,
        connection: sa.Connection,
        place: Place,
        *,
        limit: int,
        version: str | None = None,
        failed: bool = False,
        running: bool,
    ) -> list[HistoryEntry]:
        """Return the newest attempts, newest first; `version` and `failed` keep only those with such a step."""
        mark = self._dialect.placeholder
        where, values = "sequence = 1", []
        if version is not None:
            where += f" AND run_id IN (SELECT run_id FROM {self._table(place)} WHERE version = {mark})"
            values.append(version)
        if failed:
            where += f" AND run_id IN (SELECT run_id FROM {self._table(place)} WHERE event = '{STEP_FAILED}')"
        run_ids = connection.exec_driver_sql(
            f"SELECT run_id FROM {self._table(place)} WHERE {where} ORDER BY id DESC LIMIT {int(limit)}", tuple(values)
        ).scalars()
        newest_first = list(run_ids)
        if not newest_first:
            return []
        marks = ", ".join([mark] * len(newest_first))
        rows = connection.exec_driver_sql(
            "SELECT run_id, event, version, direction, outcome, statement, error, actor, host, pid, source,"
            f" environment, git_commit, detail, at FROM {self._table(place)} WHERE run_id IN ({marks})"
            " ORDER BY run_id, sequence",
            tuple(newest_first),
        ).all()
        by_run = {key: list(group) for key, group in itertools.groupby(rows, key=lambda row: row.run_id)}
        # Only the newest run can be the one under way.
        return [
            self._entry(run_id, by_run[run_id], running=running and position == 0)
            for position, run_id in enumerate(newest_first)
        ]

    def _entry(self, run_id: str, rows: Sequence[Any], *, running: bool) -> HistoryEntry:
        # A run's first event may be about the tables that it made; the run itself is what counts then.
        first = next((row for row in rows if row.event == RUN_STARTED), rows[0])
        last = next((row for row in rows if row.event == RUN_FINISHED), None)
        if last is not None:
            outcome = last.outcome
        elif first.event != RUN_STARTED:
            outcome = "succeeded"
        else:
            outcome = "running" if running else "interrupted"
        words = {ENVIRONMENT_SET: "init", RECORDED: "record", REMOVED: "remove"}
        return HistoryEntry(
            run_id=run_id,
            what=first.direction if first.event == RUN_STARTED else words.get(first.event, first.event),
            outcome=outcome,
            started_at=self._time(rows[0].at),
            finished_at=self._time((last or rows[-1]).at) if outcome not in ("running", "interrupted") else None,
            actor=first.actor or "",
            source=first.source or "",
            host=first.host or "",
            pid=first.pid or 0,
            environment=first.environment or "",
            git_commit=first.git_commit,
            steps=tuple(self._step(row) for row in rows if row.event in _STEP_EVENTS),
            error=next((row.error for row in reversed(rows) if row.error), None),
            reason=next((d["reason"] for d in map(_detail, rows) if d.get("reason")), None),
        )

    def _step(self, row: Any) -> StepRecord:
        detail = _detail(row)
        return StepRecord(
            version=row.version,
            name=detail.get("name"),
            outcome=row.outcome or row.event,
            at=self._time(row.at),
            duration_ms=detail.get("duration_ms"),
            statement=row.statement,
            error=row.error,
        )

    def _summary(self, run_id: str, rows: Sequence[Any], *, running: bool) -> RunSummary:
        first = next(row for row in rows if row.event == RUN_STARTED)
        last = next((row for row in rows if row.event == RUN_FINISHED), None)
        failed = next((row for row in reversed(rows) if row.event == STEP_FAILED), None)
        without_end = "running" if running else "interrupted"
        outcome = last.outcome if last is not None else without_end
        started = self._dialect.parse_time(first.at)
        assert started is not None
        return RunSummary(
            run_id=run_id,
            direction=Direction(first.direction),
            outcome=outcome,
            started_at=started,
            finished_at=self._time(last.at) if last is not None else None,
            actor=first.actor or "",
            source=first.source or "",
            host=first.host or "",
            pid=first.pid or 0,
            steps_done=sum(1 for row in rows if row.event == STEP_FINISHED),
            error=(failed.error if failed is not None else None) or (last.error if last is not None else None),
            failed_version=failed.version if failed is not None else None,
        )

    def _time(self, value: Any) -> datetime | None:
        return self._dialect.parse_time(value)

    def _scalar(self, connection: sa.Connection, query: str) -> str | None:
        found = connection.exec_driver_sql(query, execution_options=_RAW).scalar()
        return None if found is None else str(found)

    def _insert(self, place: Place) -> str:
        marks = ", ".join([self._dialect.placeholder] * len(_COLUMNS))
        return f"INSERT INTO {self._table(place)} ({', '.join(_COLUMNS)}) VALUES ({marks})"

    def _table(self, place: Place) -> str:
        return self._qualified(place, self._settings.journal_table)

    def _texts(self, place: Place) -> str:
        return self._qualified(place, self._settings.texts_table)

    @staticmethod
    def _qualified(place: Place, table: str) -> str:
        return f'"{place.schema}"."{table}"' if place.schema else f'"{table}"'


_STEP_EVENTS = (STEP_FINISHED, STEP_FAILED, RECORDED, REMOVED)


def _detail(row: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row.detail) if row.detail else {}
    return found


def git_commit(directory: Path) -> str | None:
    """Return the commit that is checked out around `directory`, read from .git without running git."""
    for folder in (directory, *directory.parents):
        git = folder / ".git"
        try:
            if git.is_file():  # a worktree: the file names the real folder
                git = (folder / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()
            head = (git / "HEAD").read_text(encoding="utf-8").strip()
            if not head.startswith("ref:"):
                return head[:64] or None
            return _resolve_ref(git, head.removeprefix("ref:").strip())
        except (OSError, ValueError):  # not readable, or not what git writes
            continue
    return None


def _resolve_ref(git: Path, ref: str) -> str | None:
    common = git / "commondir"
    roots = [git]
    if common.is_file():
        roots.append((git / common.read_text(encoding="utf-8").strip()).resolve())
    for root in roots:
        if (root / ref).is_file():
            return (root / ref).read_text(encoding="utf-8").strip()[:64]
        packed = root / "packed-refs"
        if packed.is_file():
            for line in packed.read_text(encoding="utf-8").splitlines():
                commit, _, name = line.partition(" ")
                if name == ref:
                    return commit[:64]
    return None


def text_checksum(text: str) -> str:
    """SHA-256 (hex) of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
