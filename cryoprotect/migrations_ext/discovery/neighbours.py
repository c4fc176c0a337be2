"""While a script runs, the modules that lie beside it can be imported by name; afterwards nothing of them is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn, Self


class Neighbours(MetaPathFinder):
    """Finds top-level modules in one folder, before installed ones and after the standard library.

    A finder and not an entry of `sys.path`: it knows what it found, so that exactly this can be forgotten, and it
    never lists a folder that may hold thousands of scripts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: set[str] = set()
        self._set_aside: dict[str, ModuleType] = {}

    def __enter__(self) -> Self:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        for root in self._found:
            for name in _with_submodules(root):
                sys.modules.pop(name, None)
        sys.modules.update(self._set_aside)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a neighbour; None leaves the name to the finders behind."""
        file = self._file(fullname) if path is None else None
        if file is None:
            return None
        loader = _Fresh(fullname, str(file))
        code = loader.get_code(fullname)
        self._found.add(fullname)
        if code is not None:
            self.make_room(code)
        is_package = file.name == "__init__.py"
        return spec_from_file_location(
            fullname, file, loader=loader, submodule_search_locations=[str(file.parent)] if is_package else None
        )

    def make_room(self, code: CodeType) -> None:
        """Set aside what the host has loaded under the name of a neighbour that `code` may import."""
        for root in {name.partition(".")[0] for name in _names(code)}:
            if root in sys.modules and root not in self._found and self._file(root):
                for name in _with_submodules(root):
                    self._set_aside[name] = sys.modules.pop(name)

    def _file(self, name: str) -> Path | None:
        if name in sys.stdlib_module_names:
            return None
        for file in (self._folder / f"{name}.py", self._folder / name / "__init__.py"):
            if file.is_file():
                return file
        return None


class _Fresh(SourceFileLoader):
    """Compiles the source as it is now: cached bytecode is told apart by whole seconds only, and litters the folder."""

    def path_stats(self, path: str | bytes) -> NoReturn:
        """Answer as for a file without a time, for which Python neither reads nor writes bytecode."""
        raise OSError(f"{path!r} is compiled anew each time")


def _names(code: CodeType) -> Iterator[str]:
    """Every name that `code` or a function in it uses; the names of imports are among them."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _with_submodules(root: str) -> list[str]:
    return [name for name in list(sys.modules) if name == root or name.startswith(f"{root}.")]
