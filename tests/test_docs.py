"""What the documentation shows is run here; its links lead somewhere, and what is generated is as the code has it.

A page is a story: its blocks happen from top to bottom in one folder. What is to be done with a fenced block stands in
a comment before it, which readers of the site do not see:

    <!-- run -->                    a console session: every command runs, and says what is shown below it
    <!-- run exit 5 -->             the same, for commands that end with this exit code
    <!-- file app.py -->            the block is written to that file
    <!-- script 001_a.sql -->       the same in the folder of scripts; it is applied, rolled back (where it has a
                                    rollback part) and applied again
    <!-- script 001_a.sql only postgresql -->   the same, where the page is told with that database
    <!-- python -->                 the block is run as a program
    <!-- not run: why -->           nothing

Comments by themselves: `<!-- room app -->` starts an empty folder with the app of the tutorial in it, `<!-- room -->`
one without; `<!-- do: command -->` runs a command that readers need not see; `<!-- databases: sqlite, postgresql -->`
at the top tells the whole page once for each. In what a session shows, `…` stands for anything, by itself for any
number of lines.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import textwrap
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .conftest import ROOT
from .docs_shell import Shell, shell

T = TypeVar("T")
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "build" not in p.parts)
GENERATE = runpy.run_path(str(DOCS / "generate.py"))

_PIECES = re.compile(
    r"<!--(?P<comment>.*?)-->|^(?P<indent>[ ]*)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_RUNNABLE = {"console", "sh", "bash", "shell", "python", "py", "sql", "postgresql"}


@dataclass(frozen=True)
class Piece:
    """A fenced block with its mark, or (without a text) a comment by itself."""

    line: int
    mark: str
    text: str | None = None
    language: str = ""


def pieces(page: Path) -> Iterator[Piece]:
    """What of a page is not prose, in order."""
    source = page.read_text(encoding="utf-8")
    mark, end = "", 0
    for found in _PIECES.finditer(source):
        line = source.count("\n", 0, found.start()) + 1
        if mark and source[end : found.start()].strip():
            yield Piece(line, mark)
            mark = ""
        if found["comment"] is not None:
            if mark:
                yield Piece(line, mark)
            mark = found["comment"].strip()
        else:
            yield Piece(line, mark, textwrap.dedent(found["text"]), found["language"].strip())
            mark = ""
        end = found.end()
    if mark:
        yield Piece(line, mark)


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


# --- the stories ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def docs_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with shell(tmp_path_factory.mktemp("docs")) as found:
        yield found


@dataclass
class Story:
    """One page, told with one database."""

    page: Path
    shell: Shell
    folder: Path
    database: str
    env: dict[str, str]
    rooms: int = 0
    room: Path = field(default_factory=Path)
    untried: int = 0
    """Scripts that were written and not applied yet."""

    def tell(self) -> None:
        self.enter("")
        piece = Piece(1, "")
        for piece in pieces(self.page):
            verb, _, rest = piece.mark.partition(" ")
            if verb in ("room", "do:", "run", "python"):
                self.try_scripts(piece)
            if piece.text is None and verb == "room":
                self.enter(rest)
            elif piece.text is None and verb == "do:":
                self.do(piece, rest)
            elif piece.text is not None and verb == "run":
                self.session(piece, rest)
            elif piece.text is not None and verb == "file":
                self.write(rest, piece.text)
            elif piece.text is not None and verb == "script":
                self.script(piece, rest)
            elif piece.text is not None and verb == "python":
                self.write("example.py", piece.text)
                self.do(piece, "python example.py")
        self.try_scripts(piece)

    def where(self, piece: Piece) -> str:
        return f"{self.page.relative_to(ROOT)}, line {piece.line}"

    def enter(self, kind: str) -> None:
        """Start in an empty folder, which has the same name for every reader."""
        self.rooms += 1
        self.room = self.folder / str(self.rooms) / "shop"
        self.room.mkdir(parents=True)
        if kind == "app":
            shutil.copy(_app_of_the_tutorial(self.folder), self.room / "app.py")
            (self.room / "migration_scripts").mkdir()

    def write(self, name: str, text: str) -> None:
        path = self.room / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def do(self, piece: Piece, command: str) -> None:
        done = self.shell.run(command, cwd=self.room, env=self.env)
        assert done.returncode == 0, f"{self.where(piece)}: {command}\n{done.stdout}"

    def script(self, piece: Piece, rest: str) -> None:
        """Write a script; scripts in a row are tried together, at the next thing that happens."""
        name, _, only = rest.partition(" only ")
        if only and only != self.database:
            return
        assert piece.text is not None
        has_rollback = bool(re.search("def rollback|migrate:down", piece.text)) or name.endswith("up.sql")
        if not has_rollback and not name.endswith("down.sql"):
            self.try_scripts(piece)
            self.write(f"migration_scripts/{name}", piece.text)
            self.do(piece, "flask db-migrate apply --env development")
            return
        self.write(f"migration_scripts/{name}", piece.text)
        self.untried += not name.endswith("down.sql")

    def try_scripts(self, piece: Piece) -> None:
        """Apply the scripts that were written, roll them back, and apply them again."""
        if not self.untried:
            return
        steps = f"--steps {self.untried}"
        self.untried = 0
        for command in (f"apply {steps}", f"rollback {steps}", f"apply {steps}"):
            self.do(piece, f"flask db-migrate {command} --env development")

    def session(self, piece: Piece, rest: str) -> None:
        expected = int(rest.removeprefix("exit ")) if rest else 0
        assert piece.text is not None
        commands = re.split(r"^\$ ", piece.text, flags=re.MULTILINE)
        assert not commands[0].strip(), f"{self.where(piece)}: text before the first command"
        for part in commands[1:]:
            command, _, shown = part.partition("\n")
            if self.exported(command):
                continue
            done = self.shell.run(command, cwd=self.room, env=self.env)
            assert done.returncode == expected, f"{self.where(piece)}: {command}\n{done.stdout}"
            assert_shown(shown, done.stdout, f"{self.where(piece)}: {command}")

    def exported(self, command: str) -> bool:
        """Whether a command only sets or unsets variables, which then holds for the commands that follow."""
        verb, *words = command.split()
        if verb == "export":
            self.env.update(word.split("=", 1) for word in words)
        elif verb == "unset":
            for word in words:
                del self.env[word]
        return verb in ("export", "unset")


def _app_of_the_tutorial(folder: Path) -> Path:
    path = folder / "app.py"
    if not path.exists():
        tutorial = pieces(DOCS / "tutorial.md")
        path.write_text(next(p.text or "" for p in tutorial if p.mark == "file app.py"), encoding="utf-8")
    return path


def assert_shown(shown: str, said: str, where: str) -> None:
    """What is shown was said, line for line."""
    wanted = [normal(line) for line in shown.splitlines() if line.strip()]
    actual = [normal(line) for line in said.splitlines() if line.strip()]
    pattern = "".join("(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in wanted)
    text = "".join(f"{line}\n" for line in actual)
    assert re.fullmatch(pattern, text), f"{where}\n--- shown\n{shown}\n--- said\n{said}"


def normal(line: str) -> str:
    """A line without what differs from run to run and from machine to machine."""
    line = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+\+00:00)?", "TIME", line)
    line = re.sub(r"\d+(\.\d+)? (ms|s)\b", "TOOK", line)
    line = re.sub(r'"(duration_ms|pid|run|host)": ("\w[\w.-]*"|\d+)', r'"\1": HERE', line)
    line = re.sub(r"by (\S+) on \S+ \((\w+), process \d+\)", r"by \1 on HOST (\2, process N)", line)
    line = re.sub(r"(sqlite:///)?/\S*/shop\b", r"\1/…/shop".replace("…", "HERE"), line)
    return " ".join(line.split())


def stories() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        marks = [piece.mark for piece in pieces(page)]
        if any(mark.split(" ")[0] in ("run", "script", "python", "do:") for mark in marks if mark):
            named = next((m.removeprefix("databases:") for m in marks if m.startswith("databases:")), "sqlite")
            yield from ((page, database.strip()) for database in named.split(","))


@pytest.mark.parametrize(
    ("page", "kind"), [pytest.param(*story, id=f"{name_of(story[0])}-{story[1]}") for story in stories()]
)
def test_a_page_is_true(
    page: Path, kind: str, docs_shell: Shell, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    env = {}
    if kind == "postgresql":
        env["DATABASE_URL"] = request.getfixturevalue("postgres_database").url
    Story(page, docs_shell, tmp_path, kind, env).tell()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_example_is_run_or_says_why_not(page: Path) -> None:
    known = re.compile(
        r"(run( exit \d+)?|file \S+|script \S+( only (sqlite|postgresql))?|python|not run: .+"
        r"|room( app)?|do: .+|databases: .+|generated: .+|/generated)",
        re.DOTALL,
    )
    generated = False
    for piece in pieces(page):
        where = f"{page.relative_to(ROOT)}, line {piece.line}"
        assert not piece.mark or known.fullmatch(piece.mark), f"{where}: unknown mark {piece.mark!r}"
        generated = piece.mark.startswith("generated:") or (generated and piece.mark != "/generated")
        if piece.text is not None and piece.language in _RUNNABLE and not generated:
            assert piece.mark, f"{where}: the block says neither how it is run nor why it is not"


# --- what the pages claim about a server ------------------------------------------------------------------------------


def test_gunicorn_waits_for_the_migration_as_the_page_on_deploying_says(tmp_path: Path, docs_shell: Shell) -> None:
    for piece in pieces(DOCS / "how-to" / "deploy.md"):
        if piece.mark == "file app.py":
            (tmp_path / "app.py").write_text(piece.text or "", encoding="utf-8")
    (tmp_path / "migration_scripts").mkdir()
    (tmp_path / "migration_scripts" / "001_products.sql").write_text("create table products (id integer);\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = docs_shell.environment({})
    environment["PYTHONPATH"] = str(docs_shell.packages)
    command = ["gunicorn", "--workers", "2", "--no-control-socket", "--bind", address, "app:create_app()"]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        status, headers, _ = eventually(lambda: get(f"http://{address}/"))
        assert (status, headers["Retry-After"]) == (503, "5")
        assert get(f"http://{address}/admin/migrations/health")[0] == 503
        assert docs_shell.run("flask db-migrate apply", cwd=tmp_path, env={}).returncode == 0
        time.sleep(1.1)  # how often the guard looks
        assert get(f"http://{address}/")[::2] == (200, "The shop is open.")
        status, _, text = get(f"http://{address}/admin/migrations/health")
        assert status == 200
        assert set(json.loads(text)) >= {"applied", "pending", "interrupted", "unusable"}
    finally:
        server.terminate()
        server.wait(10)


def get(url: str) -> tuple[int, Any, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def eventually(call: Callable[[], T]) -> T:
    """What `call` returns once something listens."""
    for _ in range(200):
        try:
            return call()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


# --- what is generated, and the links ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted(GENERATE["PAGES"]))
def test_what_is_generated_is_as_the_code_has_it(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert GENERATE["with_generated"](page, text) == text, "run: python docs/generate.py"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    text = _PIECES.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#{1,4} (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = "".join(c for c in plain.lower() if c in " -_" or unicodedata.category(c)[0] in "LN").replace(" ", "-")
        number = 0
        while (unique := slug if not number else f"{slug}-{number}") in found:
            number += 1
        found.add(unique)
    return found


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", _PIECES.sub("", page.read_text(encoding="utf-8")))
    for target in re.findall(r"\[[^]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}; there are {sorted(anchors(path))}"


def test_every_page_is_in_the_contents() -> None:
    listed: set[str] = set()
    for page in PAGES:
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            entries = (line.strip() for line in tree.splitlines())
            listed |= {
                os.path.relpath(page.parent / entry, DOCS) for entry in entries if entry and not entry.startswith(":")
            }
    assert {name_of(page) for page in PAGES} - {"index"} == listed


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="the group `docs` is not installed")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "site")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "tutorial.html").is_file()
