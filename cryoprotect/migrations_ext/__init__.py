"""Database migrations inside a Flask app: apply, roll back, track and see them.

Everything public is imported from here. Names are loaded when they are first used, so that the command line's entry
point, which every Flask app's every command imports, costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        apply_migrations,
        get_applied_migrations,
        get_migration_status,
        initialize_migration_tracking,
        record_migration,
        remove_migration_record,
        rollback_migrations,
    )
    from .errors import MigrationError, MigrationFailed
    from .extension import Migrations

_HOME = {
    "Migrations": "extension",
    "MigrationError": "errors",
    "MigrationFailed": "errors",
    "apply_migrations": "api",
    "get_applied_migrations": "api",
    "get_migration_status": "api",
    "initialize_migration_tracking": "api",
    "record_migration": "api",
    "remove_migration_record": "api",
    "rollback_migrations": "api",
}

__all__ = [
    "MigrationError",
    "MigrationFailed",
    "Migrations",
    "apply_migrations",
    "get_applied_migrations",
    "get_migration_status",
    "initialize_migration_tracking",
    "record_migration",
    "remove_migration_record",
    "rollback_migrations",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    from importlib import import_module

    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
