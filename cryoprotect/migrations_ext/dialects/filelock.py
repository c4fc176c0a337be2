"""A lock file whose lock the operating system frees when the process dies; its text says who holds it."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> bool:
        file.seek(2**20)  # a byte far behind the text, so that the text stays readable
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _is_locked(file: IO[bytes]) -> bool:
        return not _lock(file)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_locked(file: IO[bytes]) -> bool:
        # A shared lock, so that two who look at the same moment do not take each other for the holder.
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


class FileLock:
    """An exclusive lock on `path`. The file stays: removing it would race with the next owner."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def try_acquire(self, text: str) -> bool:
        """Take the lock if it is free, and write `text` for those who wait.

        Raises `OSError` where the file cannot be made.
        """
        with ExitStack() as stack:
            file = stack.enter_context(_opened(self._path, os.O_RDWR | os.O_CREAT))
            if not _lock(file):
                return False
            file.truncate(0)
            file.seek(0)
            file.write(text.encode())
            stack.pop_all()
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back; closing the file frees it."""
        if self._file is not None:
            with self._file:
                self._file.truncate(0)
            self._file = None

    def holder_text(self) -> str | None:
        """What the holder wrote about itself; None where nobody holds the lock."""
        try:
            file = _opened(self._path, os.O_RDONLY)
        except OSError:  # never locked, or not ours to look at
            return None
        with file:
            if not _is_locked(file):
                return None
            file.seek(0)
            return file.read(4096).decode(errors="replace")


def _opened(path: Path, flags: int) -> IO[bytes]:
    return os.fdopen(os.open(path, flags, 0o644), "rb" if flags == os.O_RDONLY else "r+b", buffering=0)
