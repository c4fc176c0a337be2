"""A script is compiled before anything runs, and executed only when it is its turn, in a module of its own."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ..errors import IrreversibleMigrationError, MigrationError, ScriptError
from ..model import Direction, Kind, Migration
from .names import file_label, place, shown
from .neighbours import Neighbours
from .reading import Part, is_half, read, read_part

ScriptFunction = Callable[[Any, str], object]
"""`apply` or `rollback` of a Python script: `(conn, environment)`."""


@dataclass(frozen=True, slots=True)
class Script:
    """One direction of a migration, read, checked and compiled; nothing of it has run."""

    migration: Migration
    """With its header."""
    direction: Direction
    kind: Kind
    path: Path
    """The file of this part."""
    text: str
    """This part's SQL as written, or the whole Python file."""
    first_line: int
    """Line of `path` (1-based) where `text` starts."""
    checksum: str
    """SHA-256 (hex) of `text`, by the rule of `sources.checksum`."""
    transactional: bool
    """Whether this part runs in a transaction."""
    code: CodeType | None = None
    """Compiled Python; None for SQL."""


def load(migration: Migration, direction: Direction) -> Script:
    """Read one direction of `migration`, check it and compile it.

    Raises `IrreversibleMigrationError` where there is no rollback part, and `ScriptError` for what cannot run as it is
    written, or for a file that is no longer what `migration.header` says: what runs is what was planned.
    """
    if migration.header is None:
        migration = read(migration)
    part = read_part(migration, direction)
    if part is None:
        raise _irreversible(migration)
    _refuse_changed(migration, direction, part)
    return Script(
        migration=migration,
        direction=direction,
        kind=migration.kind,
        path=part.path,
        text=part.text,
        first_line=part.first_line,
        checksum=part.checksum,
        transactional=part.transactional,
        code=_compile(part, migration) if part.tree is not None else None,
    )


@contextmanager
def loaded_function(script: Script) -> Iterator[ScriptFunction]:
    """Execute a Python script in a fresh module, and yield its function for the direction.

    While the context is open the module is in `sys.modules`, as dataclasses and pickling need it, and modules that
    lie beside the script can be imported by name; they come fresh, and are forgotten afterwards. Raises `ScriptError`
    for whatever goes wrong while the module is executed, `sys.exit` included; what the function itself raises passes.
    """
    assert script.code is not None, "only Python scripts have functions"
    module = ModuleType(script.path.stem)
    module.__file__ = str(script.path)
    module.__package__ = ""
    with _registered(module), Neighbours(script.path.parent) as neighbours:
        neighbours.make_room(script.code)
        _execute(script, script.code, module)
        yield _function(script, module)


def _refuse_changed(migration: Migration, direction: Direction, part: Part) -> None:
    header = migration.header
    assert header is not None
    own_rollback = direction is Direction.ROLLBACK and migration.kind is Kind.SQL
    if part.checksum != (header.rollback_checksum if own_rollback else header.checksum):
        raise ScriptError(
            f"{file_label(part.path)} was changed while this run was going on.",
            version=migration.version,
            hint="Run the command again: it will plan with the file as it is now.",
            file=part.path,
        )


def _irreversible(migration: Migration) -> IrreversibleMigrationError:
    file = migration.apply_path
    label = file_label(file)
    if migration.kind is Kind.PYTHON:
        cure = f"Write `def rollback(conn, environment):` in {label}"
    elif is_half(file):
        cure = f"Write {label[: -len('up.sql')]}down.sql"
    else:
        cure = f"Write the rollback part below a line `-- migrate:down` in {label}"
    return IrreversibleMigrationError(
        f"{label} has no rollback part, so the rollback cannot pass it.",
        version=migration.version,
        hint=f"{cure}, or stop above it with `--target {migration.version}`.",
        file=file,
    )


def _compile(part: Part, migration: Migration) -> CodeType:
    assert part.tree is not None
    try:
        # dont_inherit: a script has its own __future__ imports and not this module's.
        return compile(part.tree, str(part.path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # `return` at top level, and the like
        line = error.lineno if isinstance(error, SyntaxError) else None
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ScriptError(
            f"{place(part.path, line)}: {shown(said)}.",
            version=migration.version,
            hint="Correct the script.",
            file=part.path,
            line=line,
        ) from error


@contextmanager
def _registered(module: ModuleType) -> Iterator[None]:
    """Keep `module` in `sys.modules` under its name, or one like it where another thread runs the same script."""
    while sys.modules.setdefault(module.__name__, module) is not module:
        module.__name__ += "_"
    try:
        yield
    finally:
        sys.modules.pop(module.__name__, None)


def _execute(script: Script, code: CodeType, module: ModuleType) -> None:
    try:
        exec(code, module.__dict__)  # noqa: S102 - running the project's own scripts is what this tool is for
    except (KeyboardInterrupt, MigrationError):  # somebody stops the run
        raise
    except BaseException as error:  # SystemExit, too: a script that ends the process has failed
        raise _load_error(script, error) from error


def _load_error(script: Script, error: BaseException) -> ScriptError:
    places = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    line = next((line for path, line in reversed(places) if path == script.path), None)
    if isinstance(error, SystemExit):
        said = f"the script ends the process (SystemExit: {error.code!r}) when it is imported"
        hint = "Remove the call, or raise an error that says what is wrong."
    else:
        said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        said = f"importing the script failed with {said.removesuffix('.')}{_in_neighbour(script, error, places)}"
        hint = "Correct it; what a script does belongs into its functions."
    if isinstance(error, ImportError):
        hint = "Install what is missing, or put the module beside the script and import it by its plain name."
    return _script_error(script, line, f"{shown(said)}.", hint)


def _in_neighbour(script: Script, error: BaseException, places: list[tuple[Path, int]]) -> str:
    """Where it was in a module beside the script that went wrong; nothing where it was the script itself."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        places = [*places, (Path(error.filename), error.lineno)]
    beside = [(path, line) for path, line in places if path.is_relative_to(script.path.parent)]
    if not beside or beside[-1][0] == script.path:
        return ""
    return f" ({place(*beside[-1])})"


def _function(script: Script, module: ModuleType) -> ScriptFunction:
    """The script's `apply` or `rollback`, seen to be something that can be called and does its work when called."""
    function = module.__dict__.get(script.direction)
    if function is None:
        if script.direction is Direction.ROLLBACK:
            raise _irreversible(script.migration)
        raise _script_error(script, None, "there is no function `apply`.", "Write `def apply(conn, environment):`.")
    signature = f"Write `def {script.direction}(conn, environment):`."
    if not callable(function):
        raise _script_error(script, None, f"`{script.direction}` is no function.", signature)
    if any(is_kind(function) for is_kind in _RETURNS_AT_ONCE):
        raise _script_error(script, None, f"`{script.direction}` would return without doing its work.", signature)
    if not _takes_two(function):
        raise _script_error(
            script, None, f"`{script.direction}` cannot be called with a connection and an environment.", signature
        )

    def call(conn: Any, environment: str) -> object:
        result = function(conn, environment)
        if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
            if inspect.iscoroutine(result) or inspect.isgenerator(result):
                result.close()  # else Python warns, at some later time, that it was never awaited
            raise _script_error(
                script, None, f"`{script.direction}` returned {type(result).__name__} in place of doing its work.",
                signature,
            )  # fmt: skip
        return result

    return call


_RETURNS_AT_ONCE = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature: only calling it will tell
        pass
    return True


def _script_error(script: Script, line: int | None, message: str, hint: str) -> ScriptError:
    message = f"{place(script.path, line)}: {message}"
    return ScriptError(message, version=script.migration.version, hint=hint, file=script.path, line=line)
