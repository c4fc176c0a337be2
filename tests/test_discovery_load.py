"""A script that is loaded is the one that was planned; it runs in a module of its own and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cryoprotect.migrations_ext.discovery import Script, load, loaded_function, read, scan
from cryoprotect.migrations_ext.errors import IrreversibleMigrationError, LockBusyError, ScriptError
from cryoprotect.migrations_ext.model import Direction, Kind, Migration

WriteScript = Callable[[str, str], Path]


def only(scripts: Path) -> Migration:
    found = scan(scripts)
    assert found.problems == ()
    return found.migrations[0]


def script_of(scripts: Path, direction: Direction = Direction.APPLY) -> Script:
    return load(read(only(scripts)), direction)


def run(scripts: Path, direction: Direction = Direction.APPLY, conn: Any = None) -> Any:
    with loaded_function(script_of(scripts, direction)) as function:
        return function(conn, "testing")


def refusal(scripts: Path, direction: Direction = Direction.APPLY) -> ScriptError:
    script = script_of(scripts, direction)
    with pytest.raises(ScriptError) as caught, loaded_function(script) as function:
        function(None, "testing")
    error = caught.value
    assert error.hint
    assert error.version == "001"
    assert error.file == script.path
    assert error.message.startswith("001_a.py")
    assert error.message.isprintable()
    return error


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Whatever a test does with scripts, the interpreter is as before."""
    modules, finders, path = set(sys.modules), list(sys.meta_path), list(sys.path)
    yield
    assert list(sys.meta_path) == finders
    assert sys.path == path
    left = {n for n in set(sys.modules) - modules if n.startswith(("0", "helper", "other", "package", "shared"))}
    assert left == set()


# --- load -------------------------------------------------------------------------------------------------------------


def test_what_is_loaded(write_script: WriteScript, scripts: Path) -> None:
    path = write_script("001_a.sql", "-- migrate:up\nselect 1;\n-- migrate:down\nselect 2;\n")
    migration = read(only(scripts))
    script = load(migration, Direction.ROLLBACK)
    assert migration.header is not None
    assert script == Script(
        migration=migration,
        direction=Direction.ROLLBACK,
        kind=Kind.SQL,
        path=path,
        text="select 2;\n",
        first_line=4,
        checksum=str(migration.header.rollback_checksum),
        transactional=True,
        code=None,
    )


def test_loading_reads_the_header_where_nobody_did(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.sql", "select 1;")
    assert load(only(scripts), Direction.APPLY).migration == read(only(scripts))


def test_loading_executes_nothing(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "raise SystemExit\ndef apply(conn, environment): ...\n")
    script = script_of(scripts)
    assert isinstance(script.code, types.CodeType)
    assert script.code.co_filename == str(script.path)


@pytest.mark.parametrize(
    ("files", "cure"),
    [
        ({"001_a.py": "def apply(conn, environment): ..."}, "`def rollback(conn, environment):` in 001_a.py"),
        ({"001_a.sql": "select 1;"}, "below a line `-- migrate:down` in 001_a.sql"),
        ({"001_a.sql": "-- migrate:up\nselect 1;"}, "below a line `-- migrate:down` in 001_a.sql"),
        ({"001_a.up.sql": "select 1;"}, "001_a.down.sql"),
        ({"001_a/up.sql": "select 1;"}, "001_a/down.sql"),
    ],
)
def test_no_rollback_part(write_script: WriteScript, scripts: Path, files: dict[str, str], cure: str) -> None:
    for name, text in files.items():
        write_script(name, text)
    with pytest.raises(IrreversibleMigrationError) as caught:
        script_of(scripts, Direction.ROLLBACK)
    assert "has no rollback part" in caught.value.message
    assert caught.value.hint is not None
    assert cure in caught.value.hint
    assert "--target 001" in caught.value.hint
    assert script_of(scripts).text


def test_an_empty_rollback_part_is_one(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.up.sql", "select 1;")
    write_script("001_a.down.sql", "")
    assert script_of(scripts, Direction.ROLLBACK).text == ""


@pytest.mark.parametrize("file", ["001_a.sql", "001_a.py"])
def test_a_file_that_changes_under_the_plan_does_not_run(write_script: WriteScript, scripts: Path, file: str) -> None:
    text = "-- x\n" if file.endswith("sql") else "def apply(conn, environment): ...\n"
    path = write_script(file, text)
    migration = read(only(scripts))
    path.write_text(text + "\n")
    load(migration, Direction.APPLY)
    path.write_text(text + "# more")
    with pytest.raises(ScriptError, match="was changed while this run was going on"):
        load(migration, Direction.APPLY)


def test_the_other_part_may_change(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.sql", "-- migrate:up\nselect 1;\n-- migrate:down\nselect 2;\n")
    migration = read(only(scripts))
    write_script("001_a.sql", "-- migrate:up\nselect 1;\n-- migrate:down\nselect 3;\n")
    assert load(migration, Direction.APPLY).text == "select 1;\n"
    with pytest.raises(ScriptError, match="was changed"):
        load(migration, Direction.ROLLBACK)


def test_what_only_the_compiler_finds(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "def apply(conn, environment): ...\n\nreturn 1\n")
    with pytest.raises(ScriptError, match=r"001_a\.py, line 3: 'return' outside function") as caught:
        script_of(scripts)
    assert caught.value.line == 3


# --- running ----------------------------------------------------------------------------------------------------------


def test_both_functions_are_called(write_script: WriteScript, scripts: Path) -> None:
    write_script(
        "001_a.py",
        """
        def apply(conn, environment):
            return ("applied", conn, environment)

        def rollback(conn, environment):
            return ("rolled back", conn, environment)
        """,
    )
    assert run(scripts, conn=1) == ("applied", 1, "testing")
    assert run(scripts, Direction.ROLLBACK, conn=2) == ("rolled back", 2, "testing")


def test_each_run_gets_a_fresh_module(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "seen = []\ndef apply(conn, environment):\n    seen.append(1)\n    return len(seen)\n")
    assert [run(scripts), run(scripts)] == [1, 1]


def test_module_names(write_script: WriteScript, scripts: Path) -> None:
    path = write_script(
        "001_a.py",
        """
        import sys
        def apply(conn, environment):
            return __file__, __name__, sys.modules[__name__].__dict__ is globals()
        """,
    )
    assert run(scripts) == (str(path), "001_a", True)


def test_two_threads_may_run_one_script(write_script: WriteScript, scripts: Path) -> None:
    write_script(
        "001_a.py",
        """
        import sys
        def apply(conn, environment):
            conn.wait()
            return __name__, sys.modules[__name__].__dict__ is globals()
        """,
    )
    barrier, results = threading.Barrier(2, timeout=10), []
    threads = [threading.Thread(target=lambda: results.append(run(scripts, conn=barrier))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [("001_a", True), ("001_a_", True)]


def test_dataclasses_with_postponed_annotations(write_script: WriteScript, scripts: Path) -> None:
    write_script(
        "001_a.py",
        """
        from __future__ import annotations
        import pickle
        import typing
        from dataclasses import dataclass, field
        from typing import ClassVar

        @dataclass
        class Molecule:
            name: str
            kind: ClassVar[str] = "x"
            tags: list[str] = field(default_factory=list)

        def apply(conn, environment):
            hints = typing.get_type_hints(Molecule)
            return pickle.loads(pickle.dumps(Molecule("DMSO"))) == Molecule("DMSO") and hints["name"] is str
        """,
    )
    assert run(scripts) is True


def test_a_script_has_no_future_imports_of_ours(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "def apply(conn: int, environment: str): return apply.__annotations__['conn']\n")
    assert run(scripts) is int


@pytest.mark.parametrize(
    ("text", "line", "says", "cure"),
    [
        ("import sys\nsys.exit(0)\n", 2, "ends the process (SystemExit: 0)", "Remove the call"),
        ("raise SystemExit('bye')\n", 1, "ends the process (SystemExit: 'bye')", "Remove the call"),
        ("\n1 / 0\n", 2, "ZeroDivisionError: division by zero", "Correct it"),
        ("def f():\n    raise ValueError('a\\n\\x1b[31mb')\nf()\n", 2, "failed with", "Correct it"),
        ("import no_such_module_anywhere\n", 1, "No module named 'no_such_module_anywhere'", "Install"),
        ("from . import helpers\n", 1, "ImportError: attempted relative import", "beside the script"),
        ("class E(BaseException): ...\nraise E('x')\n", 2, "E: x", "Correct it"),
        ("class E(Exception):\n    def __str__(self): raise KeyError\nraise E\n", 3, "failed with", "Correct it"),
        ("raise GeneratorExit\n", 1, "GeneratorExit", "Correct it"),
    ],
)
def test_what_goes_wrong_at_import(scripts: Path, text: str, line: int, says: str, cure: str) -> None:
    (scripts / "001_a.py").write_text(text + "def apply(conn, environment): ...\n")
    error = refusal(scripts)
    assert says in error.message
    assert error.line == line
    assert f"line {line}" in error.message
    assert cure in str(error.hint)


def test_ctrl_c_at_import_is_no_fault_of_the_script(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "raise KeyboardInterrupt\ndef apply(conn, environment): ...\n")
    with pytest.raises(KeyboardInterrupt):
        run(scripts)


def test_our_own_errors_pass_at_import(write_script: WriteScript, scripts: Path) -> None:
    write_script(
        "001_a.py",
        """
        from cryoprotect.migrations_ext.errors import LockBusyError
        raise LockBusyError("cancelled")
        def apply(conn, environment): ...
        """,
    )
    with pytest.raises(LockBusyError):
        run(scripts)


@pytest.mark.parametrize("error", ["SystemExit(0)", "ValueError('x')", "KeyboardInterrupt"])
def test_what_the_function_raises_passes(write_script: WriteScript, scripts: Path, error: str) -> None:
    write_script("001_a.py", f"def apply(conn, environment):\n    raise {error}\n")
    with pytest.raises((SystemExit, ValueError, KeyboardInterrupt)):
        run(scripts)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("apply = 5", "`apply` is no function"),
        ("from helpers import *", "no function `apply`"),
        ("from helpers import co as apply", "without doing its work"),
        ("from helpers import gen as apply", "without doing its work"),
        ("from helpers import agen as apply", "without doing its work"),
        ("from helpers import one as apply", "cannot be called"),
        ("import helpers\napply = lambda c, e: helpers.co(c, e)", "returned coroutine"),
        ("import helpers\napply = lambda c, e: helpers.gen(c, e)", "returned generator"),
        ("import helpers\napply = lambda c, e: helpers.agen(c, e)", "returned async_generator"),
    ],
)
def test_functions_that_only_loading_can_judge(scripts: Path, text: str, says: str) -> None:
    (scripts / "001_a.py").write_text(text)
    (scripts / "helpers.py").write_text(
        "async def co(conn, environment): ...\n"
        "def gen(conn, environment): yield\n"
        "async def agen(conn, environment): yield\n"
        "def one(conn): ...\n"
    )
    assert says in refusal(scripts).message


def test_a_decorated_function_is_judged_by_what_the_decorator_made(write_script: WriteScript, scripts: Path) -> None:
    write_script(
        "001_a.py",
        """
        import asyncio, functools
        def waiting(function):
            @functools.wraps(function)
            def call(*args):
                return asyncio.run(function(*args))
            return call
        @waiting
        async def apply(conn, environment):
            await asyncio.sleep(0)
            return environment
        """,
    )
    assert run(scripts) == "testing"


def test_a_rollback_that_is_not_imported_after_all(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "from helpers import *\n")
    write_script("helpers.py", "def apply(conn, environment): ...\n")
    with pytest.raises(IrreversibleMigrationError):
        run(scripts, Direction.ROLLBACK)


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_neighbours_are_imported_fresh_and_forgotten(write_script: WriteScript, scripts: Path) -> None:
    write_script(
        "001_a.py",
        """
        import helpers
        from package.inner import VALUE
        def apply(conn, environment):
            import other
            return helpers.VALUE, VALUE, other.VALUE
        """,
    )
    write_script("helpers.py", "from shared import VALUE\n")
    write_script("other.py", "VALUE = 3\n")
    write_script("shared.py", "VALUE = 1\n")
    write_script("package/__init__.py", "")
    write_script("package/inner.py", "VALUE = 2\n")
    assert run(scripts) == (1, 2, 3)
    assert not {"helpers", "shared", "other", "package", "package.inner"} & set(sys.modules)
    write_script("shared.py", "VALUE = 9\n")  # same length, same second: cached bytecode would not notice
    assert run(scripts) == (9, 2, 3)
    assert not (scripts / "__pycache__").exists()


def test_neighbours_come_before_what_the_host_has_loaded(
    write_script: WriteScript, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = {name: types.ModuleType(name) for name in ("helpers", "helpers.inner", "shared")}
    write_script("001_a.py", "def apply(conn, environment):\n    from helpers import VALUE\n    return VALUE\n")
    write_script("helpers.py", "from shared import VALUE\n")
    write_script("shared.py", "VALUE = 1\n")
    with monkeypatch.context() as host:
        for name, module in hosts.items():
            host.setitem(sys.modules, name, module)
        assert run(scripts) == 1
        assert {name: sys.modules[name] for name in hosts} == hosts


def test_the_standard_library_comes_before_neighbours(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "import json, colorsys\ndef apply(c, e): return json.dumps([]), colorsys.__file__\n")
    write_script("json.py", "raise RuntimeError\n")
    write_script("colorsys.py", "raise RuntimeError\n")
    assert run(scripts)[0] == "[]"


def test_neighbours_are_forgotten_after_a_failure(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "import helpers\n1 / 0\ndef apply(conn, environment): ...\n")
    write_script("helpers.py", "")
    assert refusal(scripts).line == 2
    assert "helpers" not in sys.modules


def test_a_neighbour_with_a_syntax_error(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "\nimport helpers\ndef apply(conn, environment): ...\n")
    write_script("helpers.py", "x = (\n")
    error = refusal(scripts)
    assert "SyntaxError: '(' was never closed (helpers.py, line 1)." in error.message


def test_a_neighbour_that_fails(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "import helpers\ndef apply(conn, environment): ...\n")
    write_script("helpers.py", "x = 0\n1 / x\n")
    error = refusal(scripts)
    assert "001_a.py, line 1: importing the script failed with ZeroDivisionError" in error.message
    assert "(helpers.py, line 2)" in error.message


def test_an_installed_package_is_not_disturbed(write_script: WriteScript, scripts: Path) -> None:
    before = sys.modules.get("sqlalchemy")
    write_script("001_a.py", "import sqlalchemy\ndef apply(conn, environment): return sqlalchemy\n")
    assert run(scripts) is (before or sys.modules["sqlalchemy"])


def test_loading_needs_no_database_package(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.py", "def apply(conn, environment): ...\n")
    program = f"""
import sys
from pathlib import Path
from cryoprotect.migrations_ext.discovery import scan, read, load, loaded_function, texts
from cryoprotect.migrations_ext.model import Direction
(migration,) = scan(Path({str(scripts)!r})).migrations
with loaded_function(load(read(migration), Direction.APPLY)) as function:
    function(None, "testing")
heavy = {{"sqlalchemy", "flask", "rich", "click", "alembic", "psycopg2", "sqlite3"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent)
