"""What happens when an app starts serving, per environment; nothing at all under any other command or a test run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import click
from flask import Flask
from flask.helpers import get_debug_flag

from ..errors import MigrationError, PendingMigrationsError
from ..model import OnBoot
from ..report import error_lines, printable
from ..settings import Settings
from .guard import CONNECT_PAUSES, Guard, manager_of
from .serving import is_about_to_serve

_logger = logging.getLogger("cryoprotect.migrations_ext")


def start(app: Flask, settings: Settings) -> None:
    """Do what `DB_MIGRATE_ON_BOOT` says, if this process is about to serve.

    Raises `ConfigurationError` under every command, so that it is not found only in production: for an environment
    that does not exist, and for `apply` outside development.
    """
    environment = settings.resolve_environment(debug=_debug(app))
    on_boot = settings.policy(environment).on_boot
    if is_about_to_serve():
        act(app, environment, on_boot)


def act(app: Flask, environment: str, on_boot: OnBoot, *, pauses: Sequence[float] = CONNECT_PAUSES) -> None:
    """Apply, check or require, whatever kind of process this is.

    Never raises for a migration that fails: the app starts, and says on every page what is wrong and what helps.
    `pauses` are the seconds between attempts to reach a database that is not up yet.
    """
    if on_boot is OnBoot.CHECK:
        _warn(app, environment)
    elif on_boot is not OnBoot.OFF:
        Guard(app, environment, apply=on_boot is OnBoot.APPLY, pauses=pauses).start()


def _debug(app: Flask) -> bool:
    """Whether the app will be in debug mode: `flask` sets that only after the factory has returned, from its option."""
    return app.debug if click.get_current_context(silent=True) is None else get_debug_flag()


def _warn(app: Flask, environment: str) -> None:
    """Say what is pending, or how files and history disagree."""
    try:
        with manager_of(app, environment) as manager:
            plan = manager.check()
        if plan.steps:
            raise PendingMigrationsError([step.migration.label for step in plan.steps])
        for text in plan.warnings:
            _logger.warning("%s", printable(text))
    except MigrationError as error:
        _logger.warning("%s", "\n".join(error_lines(error)))
    except Exception:
        # What only warns must not be what stops the site.
        _logger.exception("The start-up check of the migrations failed; the app starts all the same.")


__all__ = ["act", "is_about_to_serve", "start"]
