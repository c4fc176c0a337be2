"""Whatever stands in the folder: one clear line, never a traceback, and nothing outside the folder is read."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cryoprotect.migrations_ext.discovery import check_environments, load, read, scan, texts, unnumbered, write_new
from cryoprotect.migrations_ext.discovery.names import BadName, ScriptName, parse, slug
from cryoprotect.migrations_ext.errors import ConfigurationError, MigrationError
from cryoprotect.migrations_ext.model import Direction, Kind, Migration

EXAMPLES = 300 * int(os.environ.get("FUZZ", "1"))
many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_WATCHED: list[list[str]] = []


def _watch(event: str, args: tuple[object, ...]) -> None:
    if _WATCHED and event == "open" and isinstance(args[0], str | bytes):
        _WATCHED[-1].append(os.fsdecode(args[0]))


sys.addaudithook(_watch)


@contextmanager
def files_opened() -> Iterator[list[str]]:
    opened: list[str] = []
    _WATCHED.append(opened)
    try:
        yield opened
    finally:
        _WATCHED.remove(opened)


@contextmanager
def a_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        (folder / "scripts").mkdir()
        (folder / "secret.sql").write_text("select 'secret';")
        yield folder / "scripts"
    finally:
        shutil.rmtree(folder)


pieces = st.one_of(
    st.sampled_from(
        [
            *(
                "001",
                "1",
                "01",
                "20240105",
                "2024-01-05",
                "_",
                "-",
                "_1230",
                "_123456",
                ".",
                "a",
                "ü",
                "\u0301",
                "\u200c",
            ),
            *(".sql", ".py", ".up.sql", ".down.sql", ".SQL", ".txt", ".bak", "up.sql", "#", "~", "\u202e", "\x1b[31m"),
        ]
    ),
    st.sampled_from([" ", "\n"]),
    st.text(max_size=4),
    st.binary(max_size=3).map(os.fsdecode),
)
entry_names = (
    st.lists(pieces, min_size=1, max_size=6)
    .map("".join)
    .filter(lambda n: "/" not in n and "\0" not in n and n not in (".", "..") and n)
)


@many
@given(entry_names, st.booleans())
@example("9" * 4400 + "_x.sql", False)
def test_every_name_has_an_answer(entry: str, is_folder: bool) -> None:
    found = parse(entry, is_folder=is_folder)
    if isinstance(found, BadName):
        assert found.message.isprintable()
        assert found.hint.isprintable()
    elif isinstance(found, ScriptName):
        assert found.version.isascii()
        assert found.version.isdigit()
        assert entry.startswith(f"{found.prefix}_{found.name}")
        assert len(found.version) <= 50
        assert f"{found.version}_{found.name}".encode()


@many
@given(st.text(max_size=30))
def test_a_slug_is_a_good_name(text: str) -> None:
    found = parse(f"001_{slug(text)}.sql", is_folder=False)
    assert isinstance(found, ScriptName) or not slug(text)


kinds = st.sampled_from(["file", "file", "file", "folder", "parts", "outward", "dangling", "inward", "pipe"])
contents = st.one_of(
    st.binary(max_size=40),
    st.lists(
        st.sampled_from(
            [
                *("-- migrate:up\n", "-- migrate:down\n", "-- environments: a\n", "-- transactional: false\n"),
                *("def apply(conn, environment): ...\n", "environments = ('a',)\n", "select 1;\n"),
                *("/*", "*/", "--", "\r\n", "\0", "\ufeff"),
            ]
        ),
        max_size=6,
    ).map(lambda parts: "".join(parts).encode()),
)


def make(folder: Path, entry: str, kind: str, content: bytes) -> None:
    path = folder / entry
    try:
        match kind:
            case "folder":
                path.mkdir()
            case "parts":
                path.mkdir()
                (path / "up.sql").write_bytes(content)
                (path / "down.sql").symlink_to(folder.parent / "secret.sql")
            case "outward":
                path.symlink_to(folder.parent / "secret.sql")
            case "dangling":
                path.symlink_to("nowhere")
            case "inward":
                path.symlink_to("001_a.sql")
            case "pipe":
                os.mkfifo(path)
            case _:
                with path.open("xb") as stream:  # never into a pipe or through a link that an earlier entry made
                    stream.write(content)
    except (OSError, ValueError):
        pass  # two of one name, too long, or no name on this file system


@many
@given(st.lists(st.tuples(entry_names, kinds, contents), max_size=6))
def test_every_folder_has_an_answer(entries: list[tuple[str, str, bytes]]) -> None:
    with a_folder() as folder:
        for entry in entries:
            make(folder, *entry)
        with files_opened() as opened:
            found = scan(folder)
            assert [path for path in opened if Path(path).is_relative_to(folder.parent)] == []
            for migration in found.migrations:
                look_at(migration)
            unnumbered(folder)
        assert not [path for path in opened if Path(path).resolve() == folder.parent / "secret.sql"]
        numbers = [m.number for m in found.migrations]
        assert numbers == sorted(set(numbers))
        for problem in found.problems:
            assert problem.message.isprintable()
            assert problem.hint.isprintable()
            assert all(path.parent == folder or path.parent.parent == folder for path in problem.paths)


def look_at(migration: Migration) -> None:
    """Do with a migration whatever can be done without running it."""
    try:
        known = read(migration)
        check_environments([known], ["production"])
        texts(known)
        for direction in Direction:
            load(known, direction)
    except MigrationError as error:
        assert_readable(error, migration.version)


def assert_readable(error: MigrationError, version: str | None = None) -> None:
    """One line that can be printed anywhere, with a cure."""
    assert error.message.isprintable()
    assert error.hint
    assert error.version == version


@many
@given(st.sampled_from(["001_a.sql", "001_a.py", "001_a.up.sql"]), st.one_of(contents, st.text().map(str.encode)))
def test_every_content_has_an_answer(name: str, content: bytes) -> None:
    with a_folder() as folder:
        (folder / name).write_bytes(content)
        (migration,) = scan(folder).migrations
        look_at(migration)


@many
@given(st.lists(entry_names, max_size=4), st.text(max_size=20), st.sampled_from(list(Kind)))
def test_a_new_script_is_found_again(entries: list[str], name: str, kind: Kind) -> None:
    with a_folder() as folder:
        for entry in entries:
            make(folder, entry, "file", b"")
        before = scan(folder)
        try:
            path = write_new(folder, name, kind=kind)
        except ConfigurationError as error:
            assert_readable(error)
            return
        after = scan(folder)
        assert set(after.problems) == set(before.problems)
        (added,) = set(after.migrations) - set(before.migrations)
        assert added.apply_path == path
        assert added == after.migrations[-1]
