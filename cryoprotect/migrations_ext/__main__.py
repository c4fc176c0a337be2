"""`python -m cryoprotect.migrations_ext …`: the same commands for those who do not go through `flask`."""

from __future__ import annotations

import os

import click

from .cli import LazyGroup, db_migrate

PROGRAM = "python -m cryoprotect.migrations_ext"


def main() -> None:
    """Run the commands as `flask` would: with its variables, its files of variables and its ways to find the app."""
    from flask.cli import load_dotenv
    from flask.helpers import get_load_dotenv

    os.environ["FLASK_RUN_FROM_CLI"] = "true"  # an app.run() in the app's module does nothing, as under `flask`
    if get_load_dotenv():
        load_dotenv()
    make_group().main(prog_name=PROGRAM)


def make_group() -> click.Group:
    """Return the group of `flask db-migrate` with the option that `flask` itself would have read."""
    app_option = click.Option(
        ["-A", "--app"],
        metavar="IMPORT",
        envvar="FLASK_APP",
        is_eager=True,
        expose_value=False,
        callback=_set_app,
        help="The Flask app or its factory, as 'module:name'; default: FLASK_APP, wsgi.py or app.py.",
    )
    return LazyGroup(
        name="db-migrate",
        params=[app_option, *db_migrate.params],
        callback=db_migrate.callback,
        help=db_migrate.help,
    )


def _set_app(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    from flask.cli import ScriptInfo

    if value is not None:
        ctx.ensure_object(ScriptInfo).app_import_path = value


if __name__ == "__main__":
    main()
