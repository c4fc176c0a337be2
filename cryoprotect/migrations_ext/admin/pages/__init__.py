"""What each page says, worked out to the last word: templates place it and compute nothing."""

from __future__ import annotations

from .elements import Message, Shell
from .messages import broken, closed, not_found
from .migration import MigrationPage, Part, migration_page
from .overview import OverviewPage, overview_page
from .rows import Show

__all__ = [
    "Message",
    "MigrationPage",
    "OverviewPage",
    "Part",
    "Shell",
    "Show",
    "broken",
    "closed",
    "migration_page",
    "not_found",
    "overview_page",
]
