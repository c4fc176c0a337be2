"""The shell of the documentation's examples: `flask` and `python` answer at once, from a process that forks.

A command of `flask` spends nearly all of its time on imports. Here one process imports everything once, and forks for
each command with the caller's arguments, environment, folder and standard streams. What runs is the real command line.
"""

from __future__ import annotations

import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "cryoprotect.migrations_ext"

# Reads nothing but the standard library, without `site`: it has to start faster than what it stands for.
_CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    server.sendall(json.dumps([words, dict(os.environ), os.getcwd()]).encode())
    server.shutdown(socket.SHUT_WR)
    answer = server.recv(1)
sys.exit(answer[0] if answer else 70)
"""


class Shell:
    """Runs command lines with `bash`; `flask` and `python` in them are the fast ones."""

    def __init__(self, bin_folder: Path, packages: Path) -> None:
        self._bin = bin_folder
        self.packages = packages
        """A folder for PYTHONPATH that has the package and nothing else of the checkout."""

    def run(self, command: str, *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run one command line and return it with its output, stdout and stderr as a terminal mixes them."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=cwd, env=self.environment(env), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a newcomer on a fresh machine."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR") if key in os.environ}
        path = [str(self._bin), str(Path(sys.executable).parent), kept.get("PATH", "")]
        return {**kept, "PATH": os.pathsep.join(path), "LOGNAME": "alice", "COLUMNS": "80", **more}


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """Yield a shell; its process ends with the context."""
    bin_folder, packages = folder / "bin", folder / "packages"
    bin_folder.mkdir()
    _install(packages)
    address = str(folder / "socket")
    for name in ("flask", "python"):
        client = bin_folder / name
        client.write_text(_CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
        client.chmod(0o755)
    command = [sys.executable, str(Path(__file__)), address, str(packages)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n", "the process that runs the examples did not start"
        try:
            yield Shell(bin_folder, packages)
        finally:
            server.kill()


def _install(packages: Path) -> None:
    """Make the package importable as an installed one is: without the checkout's other files, with its entry point.

    An editable installation would not do: it puts the checkout itself on the path, and there `flask` finds our own
    `wsgi.py` before the reader's `app.py`.
    """
    metadata = packages / "cryoprotect-0.dist-info"
    metadata.mkdir(parents=True)
    (packages / "cryoprotect").symlink_to(ROOT / "cryoprotect")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cryoprotect\nVersion: 0\n", encoding="utf-8")
    entry_point = f"[flask.commands]\ndb-migrate = {PACKAGE}.cli:db_migrate\n"
    (metadata / "entry_points.txt").write_text(entry_point, encoding="utf-8")


def serve(address: str, packages: str) -> None:
    """Import everything, then fork for every command until killed."""
    sys.path[:] = [packages, *(p for p in sys.path if p and Path(p) not in (ROOT, ROOT / "tests"))]
    _import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: they answer by themselves
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            caller, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(caller)
            caller.close()


def _import_everything() -> None:
    package = import_module(PACKAGE)
    for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in ("flask.cli", "flask_sqlalchemy", "alembic.operations", "rich.live", "rich.table", "psycopg2",
                 "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg2"):  # fmt: skip
        import_module(name)


def _answer(caller: socket.socket) -> None:
    """Become the command that the caller asked for; never returns."""
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    words, environment, folder = json.loads(b"".join(iter(lambda: caller.recv(65536), b"")))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - they live as long as the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    status = 1
    try:
        status = _run(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.sendall(bytes([status]))
        os._exit(0)


def _run(words: list[str]) -> int:
    try:
        if words[0] == "flask":
            sys.argv = words
            from flask.cli import main

            main()
        elif words[1] == "-m":
            sys.argv = words[2:]
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        elif words[1] == "-c":
            sys.argv = words[1:]
            sys.path.insert(0, str(Path.cwd()))
            exec(compile(words[2], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = words[1:]
            sys.path.insert(0, str(Path(words[1]).resolve().parent))
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(*sys.argv[1:])
