"""A script's text is strict UTF-8, and its checksum says whether it is still the same text."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

from ..errors import ScriptError
from .names import file_label, place

_SAVE_AS_UTF8 = "Save it as UTF-8."
_WHITE_SPACE = " \t\n\r\f\v"


def read_text(path: Path, version: str | None = None) -> str:
    """Return the file's text as written, without its byte order mark; line ends stay.

    Raises `ScriptError` where the file cannot be read, is no UTF-8 or holds a NUL character, which the PostgreSQL
    driver would take for the end of the text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ScriptError(
            f"{file_label(path)} cannot be read: {error.strerror or error}.",
            version=version,
            hint="Make it readable, or restore it.",
            file=path,
        ) from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ScriptError(
            f"{file_label(path)} is written in UTF-16, and scripts are UTF-8.",
            version=version,
            hint=_SAVE_AS_UTF8,
            file=path,
        )
    raw = raw.removeprefix(codecs.BOM_UTF8)
    nul = raw.find(b"\0")
    if nul >= 0:
        line = _line_at(raw, nul)
        raise ScriptError(
            f"{place(path, line)}: there is a NUL character, and no database takes one.",
            version=version,
            hint="Remove it; a file full of them is often UTF-16 and has to be saved as UTF-8.",
            file=path,
            line=line,
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = _line_at(raw, error.start)
        byte = error.start - raw.rfind(b"\n", 0, error.start)
        raise ScriptError(
            f"{place(path, line)}: byte {byte} of the line (0x{raw[error.start]:02X}) is no UTF-8.",
            version=version,
            hint=_SAVE_AS_UTF8,
            file=path,
            line=line,
        ) from error


def checksum(text: str) -> str:
    """Return the SHA-256 (hex) of `text` as UTF-8, with LF line ends and no white space at its end."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return hashlib.sha256(text.rstrip(_WHITE_SPACE).encode()).hexdigest()


def _line_at(raw: bytes, position: int) -> int:
    return raw.count(b"\n", 0, position) + 1
