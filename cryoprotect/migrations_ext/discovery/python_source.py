"""What a Python script declares and defines is read from its syntax tree; nothing of it runs."""

from __future__ import annotations

import ast
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from ..errors import ScriptError
from ..model import Direction
from .declarations import EXAMPLES, KEYS, Declared, nearest_key
from .names import place, shown


@dataclass(slots=True)
class PythonFile:
    """What one Python script holds."""

    tree: ast.Module
    description: str
    reversible: bool = False
    declared: dict[str, Declared] = field(default_factory=dict)


def parse_python(text: str, path: Path, version: str) -> PythonFile:
    """Read declarations, docstring and the functions' shape.

    Raises `ScriptError` for a syntax error, for a declaration that is no literal or no value of its key, and for an
    `apply` or `rollback` that is missing or cannot be called with a connection and an environment. A function that is
    imported or made by an expression can be judged only when the script is loaded.
    """
    return _Parser(text, path, version).parse()


def defines_apply(text: str) -> bool:
    """Whether `text` is Python with a function `apply` at top level."""
    try:
        body = ast.parse(text).body
    except _UNPARSABLE:
        return False
    return any(isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef) and s.name == "apply" for s in body)


_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_FUNCTIONS = (Direction.APPLY.value, Direction.ROLLBACK.value, "*")


class _Parser:
    def __init__(self, text: str, path: Path, version: str) -> None:
        self.text = text
        self.path = path
        self.version = version

    def parse(self) -> PythonFile:
        tree = self._tree()
        found = PythonFile(tree, _description(tree, self.path))
        functions: dict[str, ast.stmt] = {}
        for statement, nested in _module_level(tree):
            for name in _bound_names(statement):
                if name in KEYS:
                    found.declared[name] = self._declaration(name, statement, nested=nested)
                elif name in _FUNCTIONS:
                    functions[name] = statement
                elif not nested:
                    self._refuse_misspelt(name, statement, tree)
        self._check(functions)
        found.reversible = not _is_nothing(functions.get("rollback", functions.get("*")))
        return found

    def _tree(self) -> ast.Module:
        try:
            return ast.parse(self.text, filename=str(self.path))
        except SyntaxError as error:
            self._fail(error.lineno or None, f"{error.msg}.", "Correct the syntax.")
        except _UNPARSABLE as error:
            self._fail(None, f"Python cannot parse it ({error}).", "Move large data to an SQL script or a data file.")

    def _declaration(self, key: str, statement: ast.stmt, *, nested: bool) -> Declared:
        try:
            given = ast.literal_eval(_literal(statement, nested=nested))
        except (*_UNPARSABLE, TypeError):
            self._fail(
                statement.lineno,
                f"`{key}` is a declaration, which is read without running the script.",
                f"Assign a literal at top level, such as `{key} = {EXAMPLES[key]}`, or give the variable another name.",
            )
        try:
            return Declared(KEYS[key](given), statement.lineno)
        except ValueError as error:
            self._fail(
                statement.lineno,
                f"`{key}` {error}, and not {reprlib.repr(given)}.",
                f"Write `{key} = {EXAMPLES[key]}`.",
            )

    def _refuse_misspelt(self, name: str, statement: ast.stmt, tree: ast.Module) -> None:
        """A literal that nothing reads, under a name that is nearly a key, was meant to declare something."""
        value = _assigned_value(statement)
        if not isinstance(value, ast.Constant | ast.Tuple | ast.List | ast.Set):
            return
        meant = nearest_key(name)
        if meant and not any(
            isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load) for n in ast.walk(tree)
        ):
            self._fail(
                statement.lineno,
                f"`{name}` is no declaration that is known, and nothing else reads it.",
                f"Did you mean `{meant}`?",
            )

    def _check(self, functions: dict[str, ast.stmt]) -> None:
        if _is_nothing(functions.get("apply", functions.get("*"))):
            self._fail(None, "there is no function `apply`.", "Write `def apply(conn, environment):`.")
        for function in functions.values():
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                self._check_shape(function)

    def _check_shape(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Refuse what cannot be called as `f(conn, environment)` and do its work there."""
        if function.decorator_list:  # what a decorator makes of it shows when the script is loaded
            return
        name, cure = f"`{function.name}`", f"Write `def {function.name}(conn, environment):`"
        if isinstance(function, ast.AsyncFunctionDef):
            self._fail(
                function.lineno,
                f"{name} is `async def`, and would never run.",
                f"{cure}; call asyncio.run(…) inside where something has to be awaited.",
            )
        if "yield" in self.text and _yields(function):
            self._fail(
                function.lineno, f"{name} is a generator (it has `yield`), and would never run.", f"{cure} without it."
            )
        if not _takes_two(function.args):
            self._fail(function.lineno, f"{name} cannot be called with a connection and an environment.", f"{cure}.")

    def _fail(self, line: int | None, message: str, hint: str) -> NoReturn:
        message = f"{place(self.path, line)}: {shown(message)}"
        raise ScriptError(message, version=self.version, hint=hint, file=self.path, line=line) from None


def _description(tree: ast.Module, path: Path) -> str:
    """First paragraph of the docstring on one line; not the one that only repeats the script's name."""
    paragraphs = re.split(r"\n\s*\n", ast.get_docstring(tree) or "")
    lines = (" ".join(p.split()) for p in paragraphs)
    return next((line for line in lines if line and not line.endswith(path.stem)), "")


def _module_level(tree: ast.Module) -> Iterator[tuple[ast.stmt, bool]]:
    """Every statement that runs when the module is imported, and whether it stands inside another one."""
    waiting = [(s, False) for s in reversed(tree.body)]
    while waiting:
        statement, nested = waiting.pop()
        yield statement, nested
        if isinstance(statement, _COMPOUND):
            inner = [child for part in _blocks(statement) for child in part]
            waiting += [(s, True) for s in reversed(inner)]


_COMPOUND = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match
)  # fmt: skip


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    yield getattr(statement, "body", [])
    for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield branch.body
    yield getattr(statement, "orelse", [])
    yield getattr(statement, "finalbody", [])


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """The module's names that a statement itself sets; `*` for a star import."""
    targets: list[ast.expr] = []
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0]
        case ast.Assign():
            targets = statement.targets
        case ast.AnnAssign() if statement.value is None:
            pass
        case ast.AnnAssign() | ast.AugAssign() | ast.For() | ast.AsyncFor():
            targets = [statement.target]
        case ast.With() | ast.AsyncWith():
            targets = [item.optional_vars for item in statement.items if item.optional_vars]
    for target in targets:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _assigned_value(statement: ast.stmt | None) -> ast.expr | None:
    """The value of `name = value` or `name: type = value`, else None."""
    match statement:
        case ast.Assign(targets=[ast.Name()], value=value):
            return value
        case ast.AnnAssign(target=ast.Name(), value=value):
            return value
    return None


def _literal(statement: ast.stmt, *, nested: bool) -> ast.expr:
    value = _assigned_value(statement)
    if value is None or nested:
        raise ValueError("not assigned at top level")
    return value


def _is_nothing(statement: ast.stmt | None) -> bool:
    """Whether a name is not bound at all, or bound to None."""
    value = _assigned_value(statement)
    return statement is None or (isinstance(value, ast.Constant) and value.value is None)


def _takes_two(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    return (
        required <= 2 <= (positional if arguments.vararg is None else 2)
        and all(default is not None for default in arguments.kw_defaults)
    )  # fmt: skip


def _yields(function: ast.FunctionDef) -> bool:
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))
    return False
