"""`Migrations`: the one object that a host adds to its app."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import Flask

from .dialects import dialect_for
from .errors import ConfigurationError
from .settings import Settings

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


class Migrations:
    """Adds `flask db-migrate …`, the admin page and the start-up check to a Flask-SQLAlchemy app.

    ::

        db = SQLAlchemy()
        migrations = Migrations(db)

        def create_app():
            app = Flask(__name__)
            db.init_app(app)
            migrations.init_app(app)      # after db, and last: it may apply migrations in development
            return app

    `identify()` names the person behind a request, `authorize(action)` says whether that person may `view`, `apply`,
    `rollback` or `repair`; without them the admin page is open on the developer's own machine only.
    """

    def __init__(
        self,
        db: SQLAlchemy | None = None,
        app: Flask | None = None,
        *,
        identify: Callable[[], str] | None = None,
        authorize: Callable[[str], bool] | None = None,
    ) -> None:
        self.db = db
        self.identify = identify
        self.authorize = authorize
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Register with `app` and, where the app is about to serve, do what `DB_MIGRATE_ON_BOOT` says.

        Reads the `DB_MIGRATE_*` keys of `app.config` (the README lists them). Raises `ConfigurationError` for a key
        that is none, for a second registration, where Flask-SQLAlchemy was not initialised before, and for a database
        or a driver that this tool does not work with.
        """
        if "db_migrate" in app.extensions:
            raise ConfigurationError(
                "Migrations was initialised for this app already.",
                hint="Call init_app once per app; use app.extensions['db_migrate'] to find it again.",
            )
        state = AppMigrations(self, app)
        app.extensions["db_migrate"] = state
        self._add_commands(app)
        if state.settings.admin:
            from .admin import make_blueprint

            app.register_blueprint(make_blueprint(state), url_prefix=state.settings.url_prefix)
        from . import boot

        boot.start(app, state.settings)

    @staticmethod
    def _add_commands(app: Flask) -> None:
        """Where the distribution is installed, Flask finds the commands by entry point; this serves every other way."""
        from .cli import db_migrate

        app.cli.add_command(db_migrate)


class AppMigrations:
    """What `app.extensions["db_migrate"]` holds: the extension as one app configured it."""

    def __init__(self, extension: Migrations, app: Flask, config: Mapping[str, Any] | None = None) -> None:
        """Read the app's config, and `config` over it; what cannot work is refused here, before anything runs."""
        self._extension = extension
        self._app = app
        self.settings = Settings.from_mapping({**app.config, **(config or {})})
        self.directory = self.settings.resolve_directory(_base_folder(app))
        self.engine = self._find_engine()
        """The app's own engine, or one for `DB_MIGRATE_DATABASE_URL`."""

    @property
    def identify(self) -> Callable[[], str] | None:
        """Names the person behind a request."""
        return self._extension.identify

    @property
    def authorize(self) -> Callable[[str], bool] | None:
        """Says whether the person behind a request may do something."""
        return self._extension.authorize

    def with_config(self, config: Mapping[str, Any]) -> AppMigrations:
        """Return the same extension with some settings changed, for one call of the Python API."""
        return AppMigrations(self._extension, self._app, config)

    def environment(self, wanted: str | None = None) -> str:
        """Return the environment in force, or `wanted` where that is known; raises `ConfigurationError`."""
        return self.settings.resolve_environment(wanted, debug=self._app.debug)

    def _find_engine(self) -> sa.Engine:
        engines = self._engines()
        if self.settings.database_url:
            from .api import engine_from_url

            return engine_from_url(self.settings.database_url)
        bind = self.settings.bind
        if bind in engines:
            dialect_for(engines[bind])
            return engines[bind]
        known = ", ".join(sorted(str(k) for k in engines if k is not None)) or "none"
        if bind is None:
            raise ConfigurationError(
                "The app has no SQLALCHEMY_DATABASE_URI, so there is no database to migrate.",
                hint=f"Set it, or name a bind with DB_MIGRATE_BIND (known: {known}).",
            )
        raise ConfigurationError(
            f"DB_MIGRATE_BIND is {bind!r}, and the app has no such bind (known: {known}).",
            hint="Name one of SQLALCHEMY_BINDS, or leave DB_MIGRATE_BIND out for the default database.",
        )

    def _engines(self) -> Mapping[str | None, sa.Engine]:
        registered: SQLAlchemy | None = self._app.extensions.get("sqlalchemy")
        if registered is None:
            raise ConfigurationError(
                "Flask-SQLAlchemy is not initialised for this app, so there is no database to migrate.",
                hint="Call db.init_app(app) before migrations.init_app(app).",
            )
        if self._extension.db not in (None, registered):
            raise ConfigurationError(
                "The SQLAlchemy object that Migrations was made with is not the one of this app.",
                hint="Give Migrations the object whose init_app(app) was called.",
            )
        with self._app.app_context():
            return registered.engines


def _base_folder(app: Flask) -> Path:
    """Return the folder that holds the app's package (the outermost) or module: `DB_MIGRATE_DIRECTORY` starts there."""
    root = Path(app.root_path)
    spec = getattr(sys.modules.get(app.import_name), "__spec__", None)
    if spec is None or spec.origin is None or Path(spec.origin).parent != root:
        return root  # `python wsgi.py`, or a root_path of the host's own choice
    packages = spec.name.count(".") + (spec.submodule_search_locations is not None)
    return root.parents[packages - 1] if packages else root
