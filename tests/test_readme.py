"""Everything that the README shows is run here, and says what the README says."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(mark: str) -> list[tuple[str, str]]:
    """What follows the mark's first word, and the text, of each fenced block after `<!-- mark … -->`."""
    return re.findall(rf"<!-- {mark}(?: ([^>]*?))? -->\s*```\w*\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the commands of the tour need."""
    folder = tmp_path / "cryoprotect"
    folder.mkdir()
    shutil.copy(ROOT / "wsgi.py", folder)
    for name in ("cryoprotect", "migration_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(checkout: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the README as a reader would, after the virtual environment was activated."""
    flask, *words = command.split()
    assert flask == "flask"
    environment = {**os.environ, "PYTHONPATH": str(checkout), "COLUMNS": "100"}
    return subprocess.run(
        [str(Path(sys.executable).parent / flask), *words],
        cwd=checkout, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def sessions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip().split("\n")
        yield command, lines


def normal(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", line)
    line = re.sub(r"\d+(\.\d+)? (ms|s)\b", "TOOK", line)
    line = re.sub(r"sqlite:////?\S*/instance", "sqlite:///…/instance", line)
    line = re.sub(r"(TOOK) +\S+$", r"\1  WHO", line)
    return " ".join(line.split())


def assert_shown(shown: list[str], said: str, command: str) -> None:
    """Every shown line was said, in order; `…` stands for any number of lines."""
    actual = iter([normal(line) for line in said.splitlines() if line.strip()])
    skipping = False
    for line in map(normal, filter(str.strip, shown)):
        if line == "…":
            skipping = True
            continue
        following = list(actual)
        assert following, f"{command}: the README goes on with {line!r}, the output has ended"
        if skipping:
            assert line in following, f"{command}: {line!r} is not in the output:\n{said}"
            following = following[following.index(line) + 1 :]
        else:
            assert following[0] == line, f"{command}: the output differs:\n{said}"
            following = following[1:]
        actual, skipping = iter(following), False
    if not skipping:
        assert list(actual) == [], f"{command}: the output goes on:\n{said}"


def test_the_tour(checkout: Path) -> None:
    ran = 0
    for what, text in blocks("run"):
        if what == "failing":
            (checkout / "migration_scripts" / "008_total.sql").write_text(
                "-- migrate:up\nALTER TABEL mixtures ADD COLUMN total integer;\n", encoding="utf-8"
            )
        for command, lines in sessions(text):
            done = run(checkout, command)
            assert done.returncode == (1 if what == "failing" else 0), done.stdout + done.stderr
            assert_shown(lines, done.stdout + done.stderr, command)
            ran += 1
    assert ran >= 4


def test_the_scripts_of_the_readme_run(checkout: Path) -> None:
    for name, text in blocks("script"):
        (checkout / "migration_scripts" / name).write_text(text, encoding="utf-8")
    done = run(checkout, "flask db-migrate apply")
    assert done.returncode == 0, done.stderr
    assert "applied 009_solvents" in done.stdout
    done = run(checkout, "flask db-migrate rollback --target 7")
    assert done.returncode == 0, done.stderr


def test_new_writes_what_the_readme_says(checkout: Path) -> None:
    done = run(checkout, "flask db-migrate new add-viscosity")
    assert done.returncode == 0, done.stderr
    written = [path.name for path in (checkout / "migration_scripts").glob("008*")]
    assert written in (["008_add_viscosity.py"], ["008_add-viscosity.py"])


def test_the_app_and_the_python_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(blocks("app")[0][1], encoding="utf-8")
    assert "create_app" in runpy.run_path("app.py")
    scripts = tmp_path / "migration_scripts"
    scripts.mkdir()
    for number in (1, 2):
        text = f"-- migrate:up\ncreate table t{number} (id integer);\n-- migrate:down\ndrop table t{number};\n"
        (scripts / f"00{number}_t.sql").write_text(text, encoding="utf-8")
    (tmp_path / "api.py").write_text(blocks("api")[0][1], encoding="utf-8")
    runpy.run_path("api.py")
    assert (tmp_path / "shop.sqlite").is_file()


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    with_table = runpy.run_path(str(ROOT / "tools" / "settings_table.py"))["with_table"]
    assert with_table(README) == README, "run: python tools/settings_table.py"


def test_the_two_commands_are_there_for_ci() -> None:
    assert blocks("first-command")[0][1].strip().endswith("flask db-migrate apply")
    assert "pytest" in blocks("test-command")[0][1]
