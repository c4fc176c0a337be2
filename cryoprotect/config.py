"""One class per environment; which one applies is never guessed, and no secret or database has a silent default."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from click import ClickException
from flask import Flask
from sqlalchemy.exc import ArgumentError

DRIVERS = ("postgresql+psycopg2", "sqlite", "sqlite+pysqlite")


class ConfigError(ClickException, ValueError):
    """Raised when the app cannot be set up as it was asked to; Flask's commands show it as one line."""

    exit_code = 2


class Config:
    """What all environments share. Upper-case names go into `app.config`."""

    DB_MIGRATE_ENVIRONMENT: ClassVar[str]
    SECRET_KEY: ClassVar[str | None] = None
    """Nothing of ours signs anything; a host that grows sessions sets the variable."""

    @staticmethod
    def default_database(instance: Path) -> str | None:
        """Return the database for when no `DATABASE_URL` is set; None where there must be one."""
        return None


class Development(Config):
    """A SQLite file in the instance folder; works without any set-up."""

    DB_MIGRATE_ENVIRONMENT = "development"
    SECRET_KEY = "for development only"  # noqa: S105 - guards nothing, and exists nowhere else

    @staticmethod
    def default_database(instance: Path) -> str:
        """Return a file in the instance folder, which is created."""
        try:
            instance.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"The folder {instance} for the development database cannot be created"
                f" ({error.strerror}); make it writable or set DATABASE_URL."
            ) from error
        return f"sqlite:///{instance / 'cryoprotect.sqlite'}"


class Testing(Config):
    """A SQLite database in memory, gone with the app."""

    DB_MIGRATE_ENVIRONMENT = "testing"
    TESTING = True

    @staticmethod
    def default_database(instance: Path) -> str:
        """Return a database in memory."""
        return "sqlite:///:memory:"


class Staging(Config):
    """Like production, with sample data."""

    DB_MIGRATE_ENVIRONMENT = "staging"


class Production(Config):
    """Everything from the environment, nothing by default."""

    DB_MIGRATE_ENVIRONMENT = "production"


CONFIGS: Mapping[str, type[Config]] = {
    config.DB_MIGRATE_ENVIRONMENT: config for config in (Development, Testing, Staging, Production)
}


def configure(app: Flask, environment: str | None, overrides: Mapping[str, Any]) -> None:
    """Fill `app.config`: the environment's class, `FLASK_*` variables, our own variables, then `overrides`.

    Raises `ConfigError` for an unknown environment and for a database that is missing or that we cannot use.
    """
    config = CONFIGS[resolve_environment(environment)]
    app.config.from_object(config)
    app.config.from_prefixed_env()
    if secret_key := os.environ.get("SECRET_KEY"):
        app.config["SECRET_KEY"] = secret_key
    if url := os.environ.get("DATABASE_URL"):
        app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config.from_mapping(overrides)

    given = app.config.get("SQLALCHEMY_DATABASE_URI") or config.default_database(Path(app.instance_path))
    if not given:
        raise ConfigError(
            f"DATABASE_URL is not set, and {config.DB_MIGRATE_ENVIRONMENT} has no database of its own:"
            " set it, for example to postgresql://host/cryoprotect."
        )
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url(given)


def resolve_environment(environment: str | None = None) -> str:
    """Return the environment in force, or raise `ConfigError` that lists the known ones."""
    name = (
        environment
        or os.environ.get("DB_MIGRATE_ENVIRONMENT")
        or os.environ.get("CRYOPROTECT_ENV")
        or Development.DB_MIGRATE_ENVIRONMENT
    )
    if name in CONFIGS:
        return name
    guess = difflib.get_close_matches(name, CONFIGS, n=1)
    raise ConfigError(
        f"Unknown environment {name!r}; known are {', '.join(CONFIGS)}."
        + (f" Did you mean {guess[0]!r}?" if guess else "")
    )


def database_url(given: str | sa.URL) -> str:
    """Return the URL with the driver named that we use; SQLAlchemy 2.1 reads a bare `postgresql://` as another one.

    Raises `ConfigError`, whose text never holds any part of the URL but the driver's name.
    """
    text = given.render_as_string(hide_password=False) if isinstance(given, sa.URL) else str(given).strip()
    text = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", text)
    try:
        driver = sa.make_url(text).drivername
    except (ArgumentError, ValueError):  # both quote the URL, the password with it
        raise ConfigError(
            "DATABASE_URL cannot be read as a database URL; it looks like postgresql://host/database, with"
            " user:password@ before the host, or like sqlite:////path/to/file.sqlite; special characters of the"
            " password are percent-encoded."
        ) from None
    if driver not in DRIVERS:
        raise ConfigError(
            f"DATABASE_URL asks for {driver!r}; CryoProtect runs on postgresql:// (psycopg2) and sqlite://."
        )
    return text
