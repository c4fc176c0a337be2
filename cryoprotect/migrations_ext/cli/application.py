"""The app is loaded when the options are known; one that cannot load is an error with a cure, not a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigurationError, MigrationError
from ..settings import PREFIX

if TYPE_CHECKING:
    from flask import Flask

_VARIABLE = f"{PREFIX}ENVIRONMENT"
_OUR_FOLDER = Path(__file__).resolve().parents[1]
_STANDARD_LIBRARY = Path(os.__file__).resolve().parent


class AppLoadError(ConfigurationError):
    """Raised when the Flask app cannot be found, imported or created."""


@contextmanager
def environment_variable(label: str | None) -> Iterator[None]:
    """Hold `label` in this process's `DB_MIGRATE_ENVIRONMENT`: a factory can choose the app's config by it."""
    before = os.environ.get(_VARIABLE)
    if label is not None:
        os.environ[_VARIABLE] = label
    try:
        yield
    finally:
        if label is not None and before is None:
            os.environ.pop(_VARIABLE, None)
        elif label is not None and before is not None:
            os.environ[_VARIABLE] = before


def enter_app(ctx: click.Context) -> Flask:
    """Return the app, with its context active until the command ends; one that is active already is kept.

    Raises `AppLoadError`, and what the extension itself raises while the app is created.
    """
    from flask import current_app

    if current_app:
        active: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        return active
    app = _load(ctx)
    ctx.with_resource(app.app_context())
    return app


def _load(ctx: click.Context) -> Flask:
    from flask.cli import ScriptInfo

    try:
        return ctx.ensure_object(ScriptInfo).load_app()
    except (MigrationError, click.exceptions.Exit, click.Abort):
        raise
    except (Exception, SystemExit) as error:
        raise _told(error, ctx) from error


def _told(error: BaseException, ctx: click.Context) -> AppLoadError:
    """Make one sentence and a cure of whatever the app's modules or its factory raised."""
    from flask.cli import NoAppException

    # An ImportError inside the app's own modules reaches us as text, traceback and all; the error itself is behind it.
    cause = error.__context__ if isinstance(error, NoAppException) else None
    if isinstance(cause, ImportError) and "Traceback" in str(error):
        error = cause
    file, line = _place(error)
    if isinstance(error, NoAppException):
        return AppLoadError(
            f"The Flask app was not found: {_one_line(error.format_message())}",
            hint="Name it, as in `flask --app module:name db-migrate status`, or set FLASK_APP, or run this where"
            " wsgi.py or app.py is.",
        )
    if isinstance(error, click.ClickException):  # the app's own sentence, as `cryoprotect.config` raises it
        return AppLoadError(_one_line(error.format_message()), file=file, line=line)
    if isinstance(error, SystemExit):
        said = f" ({_one_line(str(error.code))})" if error.code not in (None, 0) else ""
        message = f"The Flask app ended the process while it was loaded{said}."
    else:
        text = _one_line(error.msg if isinstance(error, SyntaxError) else str(error))
        message = f"The Flask app cannot be loaded: {type(error).__name__}" + (f": {text}" if text else "")
    advice = "Mend it there"
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        advice = "Write the database URL as postgresql+psycopg2://… (SQLAlchemy 2.1 reads postgresql:// as psycopg 3)"
    elif isinstance(error, ModuleNotFoundError):
        advice += ", or install what is missing into the Python environment that runs this"
    return AppLoadError(message, hint=f"{advice}; --debug shows the traceback.", file=file, line=line)


def _place(error: BaseException) -> tuple[Path | None, int | None]:
    """Return where an error was raised: the last frame in somebody's own code, else the very last."""
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename), error.lineno
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_file()]
    own = [f for f in frames if not _is_library(Path(f.filename))]
    if not own and all(_is_loader(Path(f.filename)) for f in frames):
        return None, None
    frame = (own or frames)[-1]
    return Path(frame.filename), frame.lineno


def _is_library(file: Path) -> bool:
    installed = "site-packages" in file.parts or "dist-packages" in file.parts
    return installed or any(file.resolve().is_relative_to(folder) for folder in (_OUR_FOLDER, _STANDARD_LIBRARY))


def _is_loader(file: Path) -> bool:
    """Whether a frame is of what loads the app: Flask's command line, or this module."""
    cli = sys.modules.get("flask.cli")
    return file.samefile(__file__) or (cli is not None and file.samefile(cli.__file__ or __file__))


def _one_line(text: str) -> str:
    return " ".join(text.split())
