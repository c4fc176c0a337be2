"""Secrets never leave: in every text the user-info and query values of URLs and `password=…` pairs are masked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
_SHORTEST_LITERAL = 4
"""Shorter passwords are masked by their place in a URL only: as free text they would blot out ordinary words."""


def redact(text: str, urls: Iterable[str] = ()) -> str:
    """Return `text` with every secret masked.

    `urls` are the database URLs that are known, with their passwords: what is in them is masked wherever it turns up,
    in any of its spellings. Without them the shapes are recognised that servers, drivers and Python give to secrets.
    """
    for secret in sorted(_known_secrets(urls), key=len, reverse=True):
        text = text.replace(secret, f"{MASK}@" if secret.endswith("@") else MASK)
    for pattern, replacement in _SHAPES:
        text = pattern.sub(replacement, text)
    return _URL_WITH_QUERY.sub(_mask_query, text)


def redact_values(document: Any, urls: Iterable[str] = ()) -> Any:
    """Return a copy of a JSON-like document in which every text value is redacted; keys stay as they are."""
    urls = tuple(urls)
    if isinstance(document, str):
        return redact(document, urls)
    if isinstance(document, dict):
        return {key: redact_values(value, urls) for key, value in document.items()}
    if isinstance(document, list):
        return [redact_values(value, urls) for value in document]
    return document


def carries_secret(value: object) -> bool:
    """Whether a configuration value is a URL with user-info or a secret in its query, so worth passing to `redact`."""
    return isinstance(value, str) and "://" in value and redact(value) != value


_SCHEME = r"[a-z][a-z0-9+.\-]{0,40}://"
_KEY = r"[\w\-]*(?:password|passwd|passphrase|pwd|secret)[\w\-]*"
_VALUE = r"""(?:'(?:[^'\\\n]|\\.|'')*'|"(?:[^"\\\n]|\\.)*"|[^\s&;,)\]}'"]+)"""

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user-info@, up to the last "@" of the word, because passwords hold unescaped ones; a password with a
    # blank in it is recognised by the colon that no port number follows.
    (
        re.compile(rf"({_SCHEME})(?:\S{{0,2000}}@|[^\s/@:]{{0,200}}:(?!\d+(?:[/?\s\"']|$))[^@\n]{{1,300}}@)", re.I),
        rf"\1{MASK}@",
    ),
    # The same without a proper scheme: "postgres//bob:word@host", "bob:word@host". (A URL already masked stays.)
    (re.compile(r"(?<![^\s/\"'(=])[^\s:/@\"'(=*]+:(?!//)[^\s@\"'*][^\s@\"']*@(?=[\w\[.\-])"), f"{MASK}@"),
    # libpq, psycopg2 and SQLAlchemy quote the piece that they stumbled over.
    (re.compile(r'(missing "=" after )".*?"(?= in connection|\s*$)', re.M), rf'\1"{MASK}"'),
    (
        re.compile(r'(invalid percent-encoded token: |percent-encoded value: |in URI query parameter: )"[^\n]*"'),
        rf'\1"{MASK}"',
    ),
    (
        re.compile(r"""((?:host name|server at|host|port number:?|integer value|base 10:) ["'])[^"'\n]*@"""),
        rf"\1{MASK}@",
    ),
    # password=word, PGPASSWORD = 'two words', {'password': 'word'}
    (re.compile(rf"(?<![\w\-])({_KEY}\s*=\s*)(?!\*\*\*){_VALUE}", re.I), rf"\1{MASK}"),
    (re.compile(rf"""(["']{_KEY}["']\s*:\s*)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.I), rf"\1'{MASK}'"),
)

_URL_WITH_QUERY = re.compile(rf"({_SCHEME})([^\s?\"'<>]*)\?([^\s\"'<>]+)", re.I)


def _mask_query(match: re.Match[str]) -> str:
    """Mask every value of a database URL's query; a web address without user-info keeps its own."""
    scheme, place, query = match.groups()
    if scheme.lower() in ("http://", "https://") and not place.startswith(f"{MASK}@"):
        return match.group()
    return f"{scheme}{place}?" + re.sub(r"=[^&]*", f"={MASK}", query)


def _known_secrets(urls: Iterable[str]) -> Iterator[str]:
    """Yield every spelling in which a secret of these URLs may turn up in a text."""
    for url in urls:
        _scheme, separator, rest = url.partition("://")
        if not separator:
            continue
        userinfo, place = _split_userinfo(rest)
        user, _, password = userinfo.partition(":")
        if password:
            yield f"{userinfo}@"
            yield f":{password}@"
            yield from _tails(password)
            for spelling in _spellings(password):
                # A password that equals the user, host or database says nothing when those are named.
                if len(spelling) >= _SHORTEST_LITERAL and spelling not in {user, *re.split(r"[/:?]", place)}:
                    yield spelling
        for value in re.findall(rf"(?i)[?&]{_KEY}=([^&]+)", place):
            yield from (s for s in _spellings(value) if len(s) >= _SHORTEST_LITERAL)


def _split_userinfo(rest: str) -> tuple[str, str]:
    """Cut at the last "@" before the query, or at the last of all where the "?" is a part of the password."""
    head, mark, query = rest.rpartition("?")
    if mark and "@" in head:
        userinfo, _, host = head.rpartition("@")
        return userinfo, f"{host}?{query}"
    userinfo, _, place = rest.rpartition("@")
    return userinfo, place


def _spellings(secret: str) -> set[str]:
    plain = unquote(secret)
    return {secret, plain, quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1]}


def _tails(password: str) -> Iterator[str]:
    """Of `p@ss` drivers take `ss@host` for the host and say so: each tail is masked together with its "@"."""
    for match in re.finditer(r"[@:/?#]", password):
        tail = password[match.end() :]
        if tail:
            yield f"{tail}@"
