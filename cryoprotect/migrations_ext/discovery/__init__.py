"""From a directory to migrations, and from a migration to a script that is ready to run: files only, no database."""

from __future__ import annotations

from .folder import make_folder
from .loading import Script, ScriptFunction, load, loaded_function
from .new import write_new
from .reading import check_environments, read, read_part, texts
from .scanning import scan, unnumbered

__all__ = [
    "Script",
    "ScriptFunction",
    "check_environments",
    "load",
    "loaded_function",
    "make_folder",
    "read",
    "read_part",
    "scan",
    "texts",
    "unnumbered",
    "write_new",
]
