"""CryoProtect: a small Flask app about cryoprotectant molecules and their mixtures.

Nothing of the host is imported here: the migration commands are an entry point inside this package, and every Flask
app's every command imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app"]


def create_app(environment: str | None = None, **overrides: Any) -> Flask:
    """Return the app for an environment; `overrides` are config keys that win over everything else.

    Without an argument the variables `DB_MIGRATE_ENVIRONMENT` and `CRYOPROTECT_ENV` are asked, in this order; where
    neither says anything it is development. Raises `cryoprotect.config.ConfigError` for an environment that does not
    exist and for a database that is missing or cannot be used.
    """
    from flask import Flask

    from . import config, database, views

    app = Flask(__name__)
    config.configure(app, environment, overrides)
    database.init_app(app)
    views.init_app(app)
    database.migrations.init_app(app)  # last: it may apply migrations or answer in the pages' place
    return app
