"""Numbers, times and names as people say them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

_SPANS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def duration(milliseconds: int) -> str:
    """Return a duration as people say it: `12 ms`, `3.4 s`, `2 min 5 s`, `1 h 2 min`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago `at` was; what is fresh, or ahead because two clocks differ, is `just now`."""
    seconds = int((now - at).total_seconds())
    if seconds < 5:
        return "just now"
    size, name = next(span for span in _SPANS if seconds >= span[0])
    return f"{count(seconds // size, name)} ago"


def count(number: int, noun: str) -> str:
    """Return `1 day`, `3 days`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(*texts: str | None) -> str:
    """Return what is there, with middle dots between."""
    return " · ".join(text for text in texts if text)


def short_database(url: str) -> str:
    """Return what people call a database: `db01/cryo` for a server's, the file's name for SQLite's."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return url
    if parsed.get_backend_name() == "sqlite":
        return (parsed.database or ":memory:").replace("\\", "/").rsplit("/", 1)[-1]
    return "/".join(part for part in (parsed.host, parsed.database) if part) or url
