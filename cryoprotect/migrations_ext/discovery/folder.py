"""The folder of scripts where there is none yet: made once, with a page that says what belongs into it."""

from __future__ import annotations

from pathlib import Path

from ..errors import DirectoryError

_README = """\
# Migration scripts

Each file here changes the database by one step. `flask db-migrate apply` runs what is pending in order of number, each
in one transaction with its record; `flask db-migrate rollback` takes steps back, the newest first.

    flask db-migrate new add_storage_temperature          a Python script
    flask db-migrate new add_storage_temperature --sql    an SQL script

- The digits at the front of a name are its version. They are compared as numbers and never change.
- A script that was applied anywhere else than on your own machine is not edited any more: write the next one.
- Every script has a part that applies and one that rolls back.
"""


def make_folder(directory: Path) -> bool:
    """Make the folder of scripts with a README in it; returns False where there is one already.

    Raises `DirectoryError` where it cannot be made.
    """
    if directory.is_dir():
        return False
    try:
        directory.mkdir(parents=True)
        (directory / "README.md").write_text(_README, encoding="utf-8")
    except OSError as error:
        raise DirectoryError(
            f"The folder {directory} cannot be made: {error.strerror}.",
            hint="Make it by hand, or name another one with DB_MIGRATE_DIRECTORY or --dir.",
        ) from error
    return True
