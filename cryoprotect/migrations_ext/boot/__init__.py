"""What happens when an app starts serving, per environment; nothing at all under any other command or a test run."""

from __future__ import annotations

from collections.abc import Sequence

import click
from flask import Flask
from flask.helpers import get_debug_flag

from ..model import OnBoot
from ..settings import Settings
from .serving import is_about_to_serve


def start(app: Flask, settings: Settings) -> None:
    """Do what `DB_MIGRATE_ON_BOOT` says, if this process is about to serve.

    Raises `ConfigurationError` for an environment that does not exist and for `apply` outside development, under every
    command: a mistake of this kind is not to wait for production.
    """
    environment = settings.resolve_environment(debug=_debug(app))
    on_boot = settings.policy(environment).on_boot
    if is_about_to_serve():
        act(app, environment, on_boot)


def act(app: Flask, environment: str, on_boot: OnBoot, *, pauses: Sequence[float] | None = None) -> None:
    """Apply, check or require, whatever kind of process this is.

    Never raises for a migration that fails: the app starts, and says on every page what is wrong and what helps.
    `pauses` are the seconds between attempts to reach a database that is not up yet.
    """
    if on_boot is OnBoot.OFF:
        return
    from .actions import CONNECT_PAUSES, Actions  # only now: every command of the host would pay for the engine
    from .guard import Guard

    actions = Actions(app, environment, CONNECT_PAUSES if pauses is None else pauses)
    if on_boot is OnBoot.CHECK:
        actions.warn()
    else:
        Guard(app, actions, environment, apply=on_boot is OnBoot.APPLY).start()


def _debug(app: Flask) -> bool:
    """Whether the app will be in debug mode: `flask` sets that only after the factory has returned, from its option."""
    return app.debug if click.get_current_context(silent=True) is None else get_debug_flag()


__all__ = ["act", "is_about_to_serve", "start"]
