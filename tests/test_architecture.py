"""The house keeps its floors: imports go strictly down, and a light start stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest

from .conftest import ROOT

PACKAGE = "cryoprotect.migrations_ext"
HOUSE = ROOT / "cryoprotect" / "migrations_ext"

# From the roof down; a module may import what is on its own floor or below. Names are relative to the package, a name
# stands for everything in it.
FLOORS = {
    "roof": ("extension", "__main__"),
    "doors": ("cli", "admin", "boot", "testing"),
    "hall": (
        "api",
        "report",
        "overview",
        "validation",
        "recovery",
        "doctor",
        "scratch",
        "checks",
        "verification",
        "drift",
    ),
    "engine": ("runner", "execution", "failure"),
    "tools": ("discovery", "tracker", "journal", "planning", "connection", "dialects"),
    "ground": ("model", "events", "errors", "settings", "redaction", "peer"),
}
LEVEL = {room: level for level, rooms in enumerate(reversed(FLOORS.values())) for room in rooms}
GROUND = FLOORS["ground"]


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name within it (`""` is the package itself), parsed."""
    found = {}
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def is_package(module: str) -> bool:
    return (HOUSE / module.replace(".", "/") / "__init__.py").is_file()


def room(module: str) -> str:
    """The first part of a module's name: what the floors list."""
    return module.partition(".")[0]


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything in a module but what only type checkers see."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield from (other, *nodes(other))
            continue
        yield child
        yield from nodes(child)


def imported_names(module: str) -> set[str]:
    """Absolute names that a module imports, inside functions too; `from x import y` is `x.y` where that is a module."""
    found: set[str] = set()
    for node in nodes(modules()[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            for name in (f"{base}.{alias.name}" for alias in node.names):
                found.add(name if name.removeprefix(f"{PACKAGE}.") in modules() else base)
    return found


def absolute(module: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    here = f"{PACKAGE}.{module}".rstrip(".").split(".")
    up = node.level - 1 if is_package(module) else node.level
    base = here[: len(here) - up]
    return ".".join([*base, node.module] if node.module else base)


@cache
def arrows(module: str) -> frozenset[str]:
    """The modules that a module imports, and with each the packages around it that are not around `module`."""
    prefix = f"{PACKAGE}."
    inside = {name.removeprefix(prefix) for name in imported_names(module) if name.startswith(prefix)}
    targets = {name for name in inside if name in modules() and name != module}
    for name in list(targets):
        targets |= {package for package in packages_of(name) if package not in packages_of(f"{module}.x")}
    return frozenset(targets)


def packages_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def outside(module: str) -> set[str]:
    """The top-level names of everything else that a module imports."""
    return {name.partition(".")[0] for name in imported_names(module) if name and not name.startswith(PACKAGE)}


class TestFloors:
    def test_every_module_has_its_floor(self) -> None:
        assert {room(m) for m in modules() if m} <= LEVEL.keys()

    def test_no_arrow_goes_up(self) -> None:
        up = [
            f"{module} -> {target}"
            for module in modules()
            if module  # the package's __init__ loads names on first use, from wherever they are
            for target in arrows(module)
            if LEVEL[room(target)] > LEVEL[room(module)]
        ]
        assert up == []

    def test_there_is_no_circle(self) -> None:
        done: set[str] = set()

        def walk(module: str, path: tuple[str, ...]) -> None:
            assert module not in path, " -> ".join((*path[path.index(module) :], module))
            if module in done:
                return
            for target in sorted(arrows(module)):
                walk(target, (*path, module))
            done.add(module)

        for module in modules():
            walk(module, ())

    def test_the_package_itself_imports_nothing_before_it_is_asked(self) -> None:
        eager = [n for n in modules()[""].body if isinstance(n, ast.Import | ast.ImportFrom)]
        assert {n.module for n in eager if isinstance(n, ast.ImportFrom)} <= {"__future__", "typing", "importlib"}
        assert not [n for n in eager if isinstance(n, ast.Import)]

    def test_the_extension_knows_nothing_of_the_host(self) -> None:
        names = {f"{module}: {name}" for module in modules() for name in imported_names(module)}
        assert {n for n in names if ": cryoprotect" in n and PACKAGE not in n} == set()


class TestWalls:
    def test_planning_is_pure(self) -> None:
        assert outside("planning") <= {"__future__", "collections", "dataclasses", "difflib"}
        assert arrows("planning") <= set(GROUND)

    @pytest.mark.parametrize("module", [m for m in modules() if room(m) == "discovery"])
    def test_discovery_never_imports_sqlalchemy(self, module: str) -> None:
        assert not outside(module) & {"sqlalchemy", "flask", "flask_sqlalchemy", "psycopg2", "sqlite3"}
        assert {room(a) for a in arrows(module)} <= {"discovery", *GROUND}

    def test_tracker_never_touches_a_file(self) -> None:
        assert not outside("tracker") & {"pathlib", "os", "io", "shutil", "tempfile"}
        assert not calls("tracker", "open")

    @pytest.mark.parametrize("module", [m for m in modules() if room(m) in ("cli", "admin", "boot")])
    def test_doors_see_the_hall_and_the_ground_and_not_each_other(self, module: str) -> None:
        allowed = {room(module), *FLOORS["hall"], *GROUND}
        assert {a for a in arrows(module) if room(a) not in allowed} == set()

    @pytest.mark.parametrize("module", GROUND)
    def test_the_ground_stands_on_nothing(self, module: str) -> None:
        assert {room(a) for a in arrows(module)} <= set(GROUND)
        assert not outside(module) & {"flask", "sqlalchemy", "flask_sqlalchemy", "click", "rich"}

    @pytest.mark.parametrize("module", [m for m in modules() if room(m) != "cli"])
    def test_only_the_command_line_prints(self, module: str) -> None:
        assert not calls(module, "print")
        assert "sys.stdout" not in {ast.unparse(n) for n in nodes(modules()[module]) if isinstance(n, ast.Attribute)}

    @pytest.mark.parametrize("module", [m for m in modules() if LEVEL.get(room(m), 9) <= LEVEL["runner"]])
    def test_the_engine_never_prompts_exits_or_configures_logging(self, module: str) -> None:
        called = {ast.unparse(n.func) for n in nodes(modules()[module]) if isinstance(n, ast.Call)}
        assert not called & {"input", "exit", "quit", "sys.exit", "os._exit", "logging.basicConfig"}
        assert "click" not in outside(module)

    @pytest.mark.parametrize("module", [m for m in modules() if m != "settings"])
    def test_only_settings_reads_the_environment_of_the_process(self, module: str) -> None:
        """The doors read Flask's variables; ours (`DB_MIGRATE_…`) have one reader."""
        if room(module) in ("cli", "boot", "extension", "__main__", "testing"):
            return
        used = {ast.unparse(n) for n in nodes(modules()[module]) if isinstance(n, ast.Attribute)}
        assert not used & {"os.environ", "os.getenv"}


def calls(module: str, name: str) -> list[int]:
    """The lines where a built-in function is called by its name."""
    return [
        node.lineno
        for node in nodes(modules()[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter loads for `statement`, beside those that it always has."""
    code = f"import sys, json; old = set(sys.modules); {statement}; print(json.dumps(sorted(set(sys.modules) - old)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    found: list[str] = json.loads(done.stdout)
    return set(found)


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


HEAVY = {"sqlalchemy", "flask_sqlalchemy", "alembic", "rich", "pygments", "psycopg2", "sqlite3", "jinja2"}


class TestLightStart:
    def test_the_host_package_loads_nothing(self) -> None:
        names = loaded_by("import cryoprotect")
        assert {n for n in names if n.startswith("cryoprotect")} == {"cryoprotect"}
        assert tops(names) <= {"cryoprotect", *sys.stdlib_module_names}
        assert not tops(names) & HEAVY

    def test_the_extension_package_loads_nothing_heavy(self) -> None:
        names = loaded_by(f"import {PACKAGE}")
        assert not tops(names) & {*HEAVY, "flask", "click", "werkzeug"}
        assert {n for n in names if n.startswith("cryoprotect")} == {"cryoprotect", PACKAGE}

    def test_the_entry_point_loads_neither_the_host_nor_a_database_library(self) -> None:
        names = loaded_by(f"from {PACKAGE}.cli import db_migrate")
        assert not tops(names) & {*HEAVY, "flask"}
        assert not {n for n in names if n.startswith("cryoprotect.") and not n.startswith(PACKAGE)}
        assert {n for n in names if n.startswith(f"{PACKAGE}.")} == {f"{PACKAGE}.cli"}

    def test_the_extension_object_loads_nothing_that_a_request_does_not_need(self) -> None:
        names = loaded_by(f"from {PACKAGE} import Migrations")
        assert not tops(names) & {"alembic", "rich", "pygments"}
        assert not {n for n in names if n.startswith((f"{PACKAGE}.admin", f"{PACKAGE}.cli", f"{PACKAGE}.runner"))}

    @pytest.mark.parametrize("name", ["apply_migrations", "get_migration_status"])
    def test_the_python_api_loads_no_door(self, name: str) -> None:
        names = loaded_by(f"from {PACKAGE} import {name}")
        assert not tops(names) & {"alembic", "rich", "pygments"}
        assert not {n for n in names if n.startswith((f"{PACKAGE}.admin", f"{PACKAGE}.cli", f"{PACKAGE}.boot"))}


class TestTheWalkItself:
    """A test that looks at nothing is green as well."""

    def test_it_sees_the_modules(self) -> None:
        assert {"runner", "dialects.postgresql", "connection", "cli"} <= set(modules())

    def test_it_sees_arrows_of_every_kind(self) -> None:
        assert "dialects.base" in arrows("dialects.postgresql")  # from .base import
        assert "errors" in arrows("dialects.postgresql")  # from ..errors import
        assert "discovery" in arrows("runner")  # from . import discovery
        assert "dialects.postgresql" in arrows("dialects")  # inside a function

    def test_it_leaves_out_what_only_type_checkers_see(self) -> None:
        assert "runner" not in arrows("execution")
