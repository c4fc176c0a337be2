"""Whether this process is a server; the factory of an app runs for every command, and twice under the reloader."""

from __future__ import annotations

import os
import sys

import click
from flask.cli import FlaskGroup
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

_SERVERS = ("granian", "uvicorn")
"""Servers whose command line is a click program: their context is active while they import the app."""


def is_about_to_serve() -> bool:
    """Whether this process is a server: `flask run`, or an import that no command and no test run asked for.

    Under the reloader, which loads the app twice, only the process that serves counts.
    """
    if "pytest" in sys.modules:  # also while tests are collected
        return False
    if any(key.startswith("_") and key.endswith("_COMPLETE") for key in os.environ):
        return False  # a shell completes a command line: click has no context then
    context = click.get_current_context(silent=True)
    if context is None:
        return True  # gunicorn, python wsgi.py, any other import
    if _module_of(context.find_root().command) in _SERVERS:
        return True
    group = context.parent
    if group is None or not isinstance(group.command, FlaskGroup) or context.command.name != "run":
        return False
    reload = context.params.get("reload")
    with_reloader = get_debug_flag() if reload is None else bool(reload)
    return not with_reloader or is_running_from_reloader()


def _module_of(command: click.Command) -> str:
    """The top-level package that a command's function comes from."""
    return getattr(command.callback, "__module__", "").partition(".")[0]
