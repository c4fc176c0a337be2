r"""PostgreSQL text to statements, cut where psql and the server's parser cut, every character kept.

The lexical rules are those of PostgreSQL's `scan.l` and psql's `psqlscan.l`, `standard_conforming_strings` on.
Where this module had to choose:

- `BEGIN ATOMIC … END` is read as the server's grammar reads it: END closes the body where a statement could
  start. psql counts the words BEGIN, CASE and END instead, and loses its way where they are names.
- A backslash outside quotes is a command of psql: `\;` and `\:` by themselves, anything else up to the end of
  its line. It also ends the statement before it. No server understands one: the engine refuses such a script.
- Rows of `COPY … FROM STDIN` start on the line after its semicolon. Where something else follows on its own
  line (psql keeps it for after the rows), `data` is None.
- Something unfinished (a quote, a comment, a parenthesis) takes the rest of the text with it, and the server
  speaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from .statements import Statement, StatementKind

_SPACE = " \t\n\r\f\v"
_WORD = r"A-Za-z0-9_\u0080-\U0010ffff"  # in brackets: an identifier's characters, but for the dollar sign


def split(text: str) -> list[Statement]:
    """Cut `text` into its statements; empty statements and lone comments yield nothing."""
    statements: list[Statement] = []
    line, counted = 1, 0
    position = _skip(text, 0)
    while position < len(text):
        if text[position] == ";":
            position = _skip(text, position + 1)
            continue
        line += text.count("\n", counted, position)
        counted = position
        statement, after = _statement(text, position, line)
        statements.append(statement)
        position = _skip(text, after)
    return statements


def _statement(text: str, start: int, line: int) -> tuple[Statement, int]:
    """The statement that starts at `start`, and the position behind it, its semicolon and its rows."""
    if text[start] == "\\":
        after = _command_end(text, start)
        return Statement(text[start:after].rstrip(_SPACE), start, line, StatementKind.PSQL), after
    words = _first_words(text, start)
    kind = _kind(text, start, words)
    end, stop = _extent(text, start, is_routine=_is_routine(words))
    after = stop + text.startswith(";", stop)
    data: str | None = None
    if kind is StatementKind.COPY_STDIN:
        data, after = _rows(text, after)
    return Statement(text[start:end].rstrip(_SPACE), start, line, kind, data), after


# --- where a statement ends ---

# A string goes on behind white space with a line break, by the same rules: E'a' <line break> 'b\'c' is one.
_ESCAPED = r"'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+(?:'|\\?\Z)"
_CONTINUES = r"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+[\n\r])*+"
_ESCAPE_STRING = rf"{_ESCAPED}(?:{_CONTINUES}{_ESCAPED})*+"


def _run(stop: str = "", beside: str = "") -> re.Pattern[str]:
    """A pattern for all that can be jumped over at once: words, strings, flat parentheses.

    It stops before what needs a closer look: `;`, a backslash, a dollar sign, a comment, a parenthesis around
    one of these, a quote without an end or with an `e` before it of which two characters do not tell whether it
    is a word. `stop` adds characters to stop at, except where `beside` matches. Possessive throughout: nothing is
    tried twice, whatever the text.
    """
    plain = "|".join(
        [
            rf"""[^'"$();\\/\-{stop}]++""",
            rf"""(?:(?<![eE])|(?<=[{_WORD}][eE]))'[^']*+'""",
            rf"""(?<=[^{_WORD}$][eE]){_ESCAPE_STRING}""",
            r'"[^"]*+"',
            r"""-(?!-)|/(?!\*)""" + beside,
        ]
    )
    return re.compile(rf"(?:{plain}|\((?:{plain})*+\))*+", re.DOTALL)


_RUN = _run()
_RUN_TO_BEGIN = _run(stop="bB", beside="|[bB](?![eE][gG][iI][nN])")


def _extent(text: str, start: int, *, is_routine: bool) -> tuple[int, int]:
    """Where the statement's text ends, and where its semicolon, a backslash or the end of `text` is."""
    run = _RUN_TO_BEGIN if is_routine else _RUN
    depth = 0
    in_body = False
    comments = start, start  # the last stretch of comments: it is no part of the statement if nothing follows
    position = start
    while True:
        found = run.match(text, position)
        at = found.end() if found else position  # the pattern matches the empty string too
        char = text[at : at + 1]
        if char in ("", "\\") or (char == ";" and depth == 0 and not in_body):
            break
        after = at + 1
        if char == ";":
            in_body = in_body and not _END.match(text, _skip(text, after))
        elif char == "(":
            depth += 1
        elif char == ")":
            depth = max(depth - 1, 0)
        elif char in "-/":
            after = _comment_end(text, at)
            if after < 0:
                return len(text), len(text)
            follows = not text[comments[1] : at].strip(_SPACE)
            comments = (comments[0] if follows else at), after
        elif char in "bB":
            after, opens = _begin_end(text, position, at)
            if opens and depth == 0:
                run = _RUN
                in_body = not _END.match(text, _skip(text, after))
        else:
            after = _quote_end(text, position, at)
        position = after
    trailing = comments[1] > start and not text[comments[1] : at].strip(_SPACE)
    return (comments[0] if trailing else at), at


_WORD_REST = re.compile(rf"[{_WORD}$]*+")
_BEGIN = re.compile(rf"[bB][eE][gG][iI][nN](?![{_WORD}$])")
_ATOMIC = re.compile(rf"[aA][tT][oO][mM][iI][cC](?![{_WORD}$])")
_END = re.compile(rf"[eE][nN][dD](?![{_WORD}$])")


def _begin_end(text: str, begun: int, at: int) -> tuple[int, bool]:
    """The position behind the word with these five letters, and whether it is the BEGIN ATOMIC of a body."""
    begin = _BEGIN.match(text, at)
    if begin and not _word_before(text, begun, at):
        atomic = _ATOMIC.match(text, _skip(text, begin.end()))
        if atomic:
            return atomic.end(), True
    return _end_of(_WORD_REST, text, at), False


def _quote_end(text: str, begun: int, at: int) -> int:
    """The position behind what a quote or dollar sign starts; no word before `begun` goes on up to it."""
    match text[at]:
        case "$":
            return _dollar_end(text, begun, at)
        case "'" if _is_escape_string(text, begun, at):
            return _end_of(_AS_ESCAPE_STRING, text, at)
        case quote:
            return text.find(quote, at + 1) + 1 or len(text)


_AS_ESCAPE_STRING = re.compile(_ESCAPE_STRING, re.DOTALL)
_LETTER = re.compile(rf"[{_WORD}]")
_DOLLAR_TAG = re.compile(rf"\$(?:(?![0-9])[{_WORD}]++)?+\$")
_PARAMETER = re.compile(rf"\$(?:[0-9]++(?:[{_WORD}][{_WORD}$]*+)?)?")


def _dollar_end(text: str, begun: int, at: int) -> int:
    """Behind a dollar-quoted string, a parameter (`$1`), or the identifier that the dollar sign is part of."""
    if _word_before(text, begun, at).strip("0123456789"):
        return _end_of(_WORD_REST, text, at)
    tag = _DOLLAR_TAG.match(text, at)
    if not tag:
        return _end_of(_PARAMETER, text, at)
    closing = text.find(tag.group(), tag.end())
    return closing + len(tag.group()) if closing >= 0 else len(text)


def _is_escape_string(text: str, begun: int, at: int) -> bool:
    """Whether the quote at `at` belongs to an `E'…'`: behind an `e` that is not the last letter of a word."""
    return at > begun and text[at - 1] in "eE" and (at - 1 == begun or not _LETTER.match(text, at - 2))


def _word_before(text: str, begun: int, at: int) -> str:
    """The letters and digits directly before `at`, at most back to `begun`."""
    start = at
    while start > begun and _LETTER.match(text, start - 1):
        start -= 1
    return text[start:at]


# --- white space, comments, commands of psql ---

_BLANK = re.compile(r"(?:[ \t\n\r\f\v]++|--[^\n\r]*+)*+")
_LINE_COMMENT = re.compile(r"--[^\n\r]*+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_COMMAND = re.compile(r"\\(?:[;:]|[^\n]*+)")


def _skip(text: str, position: int) -> int:
    """The position of the next token: behind white space and finished comments."""
    while True:
        position = _end_of(_BLANK, text, position)
        if not text.startswith("/*", position):
            return position
        after = _comment_end(text, position)
        if after < 0:
            return position
        position = after


def _comment_end(text: str, at: int) -> int:
    """The position behind the comment that starts at `at`, or -1 where it has no end."""
    if text[at] == "-":
        return _end_of(_LINE_COMMENT, text, at)
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return -1


def _command_end(text: str, at: int) -> int:
    return _end_of(_COMMAND, text, at)


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


# --- what a statement is ---

_FIRST_WORD = re.compile(
    r"(?:abort|begin|commit|copy|create|end|prepare|release|rollback|savepoint|start)"
    rf"(?![{_WORD}$])",
    re.ASCII | re.IGNORECASE,
)
_TOKEN = re.compile(rf'(?![0-9])[{_WORD}][{_WORD}$]*+|"[^"]*+"|/\*.*|.', re.DOTALL)


def _first_words(text: str, start: int) -> list[str]:
    """The first tokens of a statement that may be worth a look, keywords in lower case; else nothing."""
    return list(islice(_tokens(text, start), 4)) if _FIRST_WORD.match(text, start) else []


def _tokens(text: str, position: int) -> Iterator[str]:
    """Words, quoted identifiers, single characters, up to the next semicolon or backslash.

    A comment without an end is the last of them.
    """
    while match := _TOKEN.match(text, _skip(text, position)):
        token = match.group()
        if token in (";", "\\"):
            return
        yield token.lower() if token.isascii() else token  # as the server: only ASCII letters are folded
        position = match.end()


def _is_routine(words: list[str]) -> bool:
    """Whether the statement creates a function or procedure, which may have a body of statements."""
    match words:
        case ["create", "function" | "procedure", *_] | ["create", "or", "replace", "function" | "procedure"]:
            return True
    return False


def _kind(text: str, start: int, words: list[str]) -> StatementKind:
    match words:
        case []:
            return StatementKind.SQL
        case ["begin", *_] | ["start", "transaction", *_]:
            return StatementKind.BEGIN
        case ["commit" | "rollback", "prepared", *_]:
            return StatementKind.TWO_PHASE
        case ["prepare", "transaction", after, *_] if after not in ("as", "("):  # a statement of that name
            return StatementKind.TWO_PHASE
        case ["savepoint" | "release", *_]:
            return StatementKind.SAVEPOINT
        case ["rollback", "to", *_] | ["rollback", "work" | "transaction", "to", *_]:
            return StatementKind.SAVEPOINT
        case ["commit" | "end", *_]:
            return StatementKind.COMMIT
        case ["rollback" | "abort", *_]:
            return StatementKind.ROLLBACK
        case ["copy", *_] if _reads_rows(text, start):
            return StatementKind.COPY_STDIN
    return StatementKind.SQL


def _reads_rows(text: str, start: int) -> bool:
    """Whether a COPY takes its rows from the connection: `FROM STDIN`, and FROM STDOUT means the same."""
    depth = 0
    before = ""
    for word in _tokens(text, start):
        if before == "from" and depth == 0:
            return word in ("stdin", "stdout")
        if before == "copy" and word == "(":
            return False  # COPY (query) only writes
        depth += {"(": 1, ")": -1}.get(word, 0)
        before = word
    return False


# --- rows of COPY ---

_REST_OF_LINE = re.compile(r"[ \t\r\f\v]*+(?:--[^\n\r]*+\r?)?(?:\n|\Z)")
_LAST_LINE = re.compile(r"\\\.\r?(?:\n|\Z)")


def _rows(text: str, after: int) -> tuple[str | None, int]:
    r"""The rows behind a COPY that ends before `after`, and the position behind their closing line `\.`.

    Without that line the rows go on to the end of the text, as in psql. None where they do not start on the
    next line.
    """
    rest = _REST_OF_LINE.match(text, after)
    if not rest:
        return None, after
    first = rest.end()
    before = first - 1  # the line break before a line that may be the last
    while first < len(text) and (before := text.find("\n\\.", before)) >= 0:
        closing = _LAST_LINE.match(text, before + 1)
        if closing:
            return text[first : before + 1], closing.end()
        before += 1
    return text[first:], len(text)
