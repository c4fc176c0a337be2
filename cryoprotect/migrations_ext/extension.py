"""`Migrations`: the one object that a host adds to its app."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import Flask

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
        that is none, for a second registration, and where Flask-SQLAlchemy was not initialised before.
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

        boot.start(app, state)

    @staticmethod
    def _add_commands(app: Flask) -> None:
        """Where the distribution is installed, Flask finds the commands by entry point; this serves every other way."""
        from .cli import db_migrate

        app.cli.add_command(db_migrate)


class AppMigrations:
    """What `app.extensions["db_migrate"]` holds: the extension as one app configured it."""

    def __init__(self, extension: Migrations, app: Flask) -> None:
        self._extension = extension
        self._app_name = app.import_name
        self.settings = Settings.from_mapping(app.config)
        self.directory = self.settings.resolve_directory(_base_folder(app))
        self._db = extension.db or app.extensions.get("sqlalchemy")
        if self._db is None or "sqlalchemy" not in app.extensions:
            raise ConfigurationError(
                "Flask-SQLAlchemy is not initialised for this app, so there is no database to migrate.",
                hint="Call db.init_app(app) before migrations.init_app(app).",
            )
        self._engine: sa.Engine | None = None
        self._app = app

    @property
    def identify(self) -> Callable[[], str] | None:
        """Names the person behind a request."""
        return self._extension.identify

    @property
    def authorize(self) -> Callable[[str], bool] | None:
        """Says whether the person behind a request may do something."""
        return self._extension.authorize

    @property
    def engine(self) -> sa.Engine:
        """The app's own engine, or one for `DB_MIGRATE_DATABASE_URL`."""
        if self._engine is None:
            self._engine = self._find_engine()
        return self._engine

    def _find_engine(self) -> sa.Engine:
        if self.settings.database_url:
            from .api import engine_from_url

            return engine_from_url(self.settings.database_url)
        with self._app.app_context():
            engines: dict[str | None, sa.Engine] = self._db.engines  # type: ignore[union-attr]
        if self.settings.bind not in engines:
            known = ", ".join(sorted(str(k) for k in engines if k is not None)) or "none"
            if self.settings.bind is None:
                raise ConfigurationError(
                    "The app has no SQLALCHEMY_DATABASE_URI, so there is no database to migrate.",
                    hint=f"Set it, or name a bind with DB_MIGRATE_BIND (known: {known}).",
                )
            raise ConfigurationError(
                f"DB_MIGRATE_BIND is {self.settings.bind!r}, and the app has no such bind (known: {known})."
            )
        return engines[self.settings.bind]


def _base_folder(app: Flask) -> Path:
    """The folder that holds the app's package or module, where a relative `DB_MIGRATE_DIRECTORY` starts."""
    root = Path(app.root_path)
    return root.parent if (root / "__init__.py").is_file() else root


def state_of(app: Any) -> AppMigrations | None:
    """Return what the app registered, or None."""
    found = app.extensions.get("db_migrate")
    return found if isinstance(found, AppMigrations) else None
