"""How a Python value reaches the driver where the driver would not take it as it is."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any


def driver_value(value: Any, dialect: str, *, lists: bool = False) -> Any:
    """Return `value` as psycopg2 or sqlite3 takes it.

    Dictionaries and lists become JSON text, which fits json and jsonb columns; with `lists` a list is left to psycopg2,
    which makes an array of it. What SQLite has no type for is stored as SQLAlchemy's own types store it, so that
    models find it again: UUIDs as 32 hex digits, times as ISO text; aware ones in UTC.
    """
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, dict) or (isinstance(value, list | tuple) and not lists):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, uuid.UUID):
        return value.hex if dialect == "sqlite" else str(value)
    return _sqlite_value(value) if dialect == "sqlite" else value


def _sqlite_value(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat(sep=" ", timespec="microseconds")
    if isinstance(value, time):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)  # a float would lose digits
    return value
