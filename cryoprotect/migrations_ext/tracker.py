"""The tracking table: a row with status `applied` means applied; nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from .dialects import Dialect, Write
from .dialects.base import Place, storable
from .errors import ForeignTableError
from .model import AppliedMigration, Header, Migration, version_number
from .settings import Settings

_RAW = {"no_parameters": True}
ORIGINAL_COLUMNS = ("id", "version", "name", "applied_at", "status")
OWN_COLUMNS = ("checksum", "environment", "duration_ms", "applied_by")


@dataclass(frozen=True, slots=True)
class History:
    """The tracking table as it was read."""

    rows: tuple[AppliedMigration, ...] = ()
    """In the order in which they were written."""
    exists: bool = False
    widened: bool = False
    """Whether our own columns are there, not only the original design's five."""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a new row says beside version and name."""

    environment: str
    actor: str
    duration_ms: int


class Tracker:
    """Reads history, and makes the statements that write it; sends none by itself."""

    def __init__(self, dialect: Dialect, settings: Settings) -> None:
        self._dialect = dialect
        self._settings = settings

    def read(self, connection: sa.Connection) -> History:
        """Return the history with one query; an absent table is an empty history. Never writes.

        Raises `ForeignTableError` where a table of that name has other columns than ours.
        """
        try:
            result = connection.exec_driver_sql(self._dialect.history_query(self._settings), execution_options=_RAW)
        except DBAPIError:
            connection.rollback()
            if self._is_there(connection):
                raise
            return History()
        columns = tuple(result.keys())[:-1]
        found = result.all()
        if found and not found[0][-1]:  # further down the search_path: not where we would write
            return History()
        self._refuse_foreign(columns)
        widened = set(OWN_COLUMNS) <= set(columns)
        at = {name: position for position, name in enumerate(columns)}
        # Sorted here: a foreign table has no id to order by, and has to be told as what it is.
        rows = sorted((self._row(row, at, widened) for row in found if row[at["id"]] is not None), key=_by_id)
        return History(tuple(rows), exists=True, widened=widened)

    def create(self, place: Place, history: History) -> list[Write]:
        """Return what makes or widens the tracking table; empty where nothing is to be done."""
        table = self.qualified(place)
        if not history.exists:
            index = f"{self._settings.table}_version_idx"
            return [
                Write(
                    f"CREATE TABLE {table} ("
                    f"id {self._dialect.serial}, "
                    "version varchar(50) NOT NULL, "
                    "name varchar(255) NOT NULL, "
                    f"applied_at {self._dialect.timestamp} DEFAULT {self._dialect.now}, "
                    "status varchar(50) DEFAULT 'applied', "
                    "checksum varchar(64), environment varchar(50), duration_ms bigint, applied_by varchar(255))"
                ),
                Write(self._unique_index(place, index, table)),
            ]
        if not history.widened:
            kinds = ("varchar(64)", "varchar(50)", "bigint", "varchar(255)")
            return [
                Write(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
                for column, kind in zip(OWN_COLUMNS, kinds, strict=True)
            ]
        return []

    def record(self, place: Place, migration: Migration, facts: RowFacts, *, status: str = "applied") -> Write:
        """Return the plain INSERT on a unique version that is the second fence behind the lock."""
        mark = self._dialect.placeholder
        header = migration.header or Header("", None, reversible=False)
        return Write(
            f"INSERT INTO {self.qualified(place)}"
            " (version, name, status, checksum, environment, duration_ms, applied_by)"
            f" VALUES ({', '.join([mark] * 7)})",
            (
                migration.version,
                migration.name,
                status,
                header.checksum,
                facts.environment,
                facts.duration_ms,
                storable(facts.actor)[:255],  # what the column holds
            ),
        )

    def record_by_hand(self, place: Place, version: str, name: str, status: str) -> Write:
        """Return the INSERT of a row that somebody else's word stands for: it has no checksum."""
        mark = self._dialect.placeholder
        return Write(
            f"INSERT INTO {self.qualified(place)} (version, name, status) VALUES ({mark}, {mark}, {mark})",
            (version, name, status),
        )

    def finish(self, place: Place, migration: Migration, facts: RowFacts) -> Write:
        """Return what turns the `running` row of a non-transactional migration into an applied one."""
        mark = self._dialect.placeholder
        return Write(
            f"UPDATE {self.qualified(place)} SET status = 'applied', applied_at = {self._dialect.now},"
            f" duration_ms = {mark} WHERE version = {mark} AND status = 'running'",
            (facts.duration_ms, migration.version),
            must_hit=True,
        )

    def mark(self, place: Place, row: AppliedMigration, status: str) -> Write:
        """Return what gives a row another status."""
        sign = self._dialect.placeholder
        return Write(
            f"UPDATE {self.qualified(place)} SET status = {sign} WHERE id = {sign}", (status, row.id), must_hit=True
        )

    def remove(self, place: Place, row: AppliedMigration) -> Write:
        """Return what removes exactly the row that was read."""
        mark = self._dialect.placeholder
        return Write(f"DELETE FROM {self.qualified(place)} WHERE id = {mark}", (row.id,), must_hit=True)

    def qualified(self, place: Place, suffix: str = "") -> str:
        """Return the table's name as it is written in SQL; a script may have emptied the search_path."""
        table = f'"{self._settings.table}{suffix}"'
        return f'"{place.schema}".{table}' if place.schema else table

    def _unique_index(self, place: Place, index: str, table: str) -> str:
        # The original design's name and form, so that a table of ours and one of its are the same thing.
        return f'CREATE UNIQUE INDEX "{index}" ON {table} (version)'

    def _row(self, row: Sequence[Any], at: dict[str, int], widened: bool) -> AppliedMigration:
        version = str(row[at["version"]])
        own = (row[at[c]] for c in OWN_COLUMNS) if widened else (None,) * 4
        return AppliedMigration(
            row[at["id"]],
            version,
            version_number(version),
            row[at["name"]],
            row[at["status"]] or "",
            self._dialect.parse_time(row[at["applied_at"]]),
            *own,
        )

    def _is_there(self, connection: sa.Connection) -> bool:
        place = self._dialect.place(connection, self._settings)
        return self._dialect.has_table(connection, self._settings.table, place.schema)

    def _refuse_foreign(self, columns: Sequence[str]) -> None:
        """Ours has the original five columns, or those and our own; every other table is somebody else's."""
        found = set(columns)
        if found == set(ORIGINAL_COLUMNS) or set(ORIGINAL_COLUMNS + OWN_COLUMNS) <= found:
            return
        raise ForeignTableError(
            f"There is a table {self._settings.table!r} that is not ours: its columns are {', '.join(columns)}.",
            hint='Choose another name for the tracking table, for example DB_MIGRATE_TABLE = "db_migrations".',
        )


def _by_id(row: AppliedMigration) -> int:
    return row.id
