"""What a cell defines and what it needs, read from its text alone."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pipeline.errors import NotebookError
from pipeline.trainer.cells import RESULT

# IPython puts names of its own among the builtins; a job has none of them.
_IPYTHON_ONLY = {"display", "get_ipython", "__IPYTHON__"}
PROVIDED = frozenset(
    {*dir(builtins), "__file__", "__builtins__", "__annotations__", "job_dir"} - _IPYTHON_ONLY
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellNames:
    """Names of a cell.

    Args:
        defined: What it binds at its top level, imports included.
        imported: The imports among them.
        needed_at_once: What its top level reads, itself defining it or not.
        needed_later: What its functions and classes read from outside themselves.
        is_open: Whether `from ... import *` may define anything.
    """

    defined: frozenset[str]
    imported: frozenset[str]
    needed_at_once: frozenset[str]
    needed_later: frozenset[str]
    is_open: bool

    @property
    def own(self) -> frozenset[str]:
        """What it defines besides imports: that tells it from other cells."""
        return self.defined - self.imported


def read_names(text: str, *, where: str = "The cell") -> CellNames:
    """Return a cell's names.

    Args:
        text: The cell's Python.
        where: What the cell is called in messages.

    Raises:
        NotebookError: if it is no Python; the message has the line.
    """
    tree = parse_cell(text, where=where)
    table = symtable.symtable(text, where, "exec")
    top = table.get_symbols()
    inner = [symbol for child in _descendants(table) for symbol in child.get_symbols()]
    declared = {symbol.get_name() for symbol in inner if symbol.is_declared_global() and symbol.is_assigned()}
    return CellNames(
        defined=frozenset(
            {symbol.get_name() for symbol in top if symbol.is_assigned() or symbol.is_imported()} | declared
        ),
        imported=frozenset(symbol.get_name() for symbol in top if symbol.is_imported()),
        needed_at_once=frozenset(symbol.get_name() for symbol in top if symbol.is_referenced()),
        needed_later=frozenset(
            symbol.get_name() for symbol in inner if symbol.is_global() and symbol.is_referenced()
        ),
        is_open=any(
            isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
            for node in ast.walk(tree)
        ),
    )


def parse_cell(text: str, *, where: str = "The cell") -> ast.Module:
    """Return the syntax tree of a cell.

    Raises:
        NotebookError: if it is no Python, or has commands that only a notebook knows.
    """
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        number = getattr(error, "lineno", None) or 1
        lines = text.splitlines()
        line = lines[number - 1].strip() if number <= len(lines) else ""
        if line.startswith(("%", "!", "?")) or line.endswith("?"):
            raise NotebookError(
                f"{where}, line {number}: a job knows no notebook commands; move this line to an unmarked "
                f"cell. Received: {line!r}"
            ) from error
        reason = getattr(error, "msg", None) or str(error)
        raise NotebookError(f"{where}, line {number}: {reason}. Received: {line!r}") from error


def check_names(cells: Sequence[tuple[str, CellNames]]) -> None:
    """Make sure that every name which packaged cells need is defined by one of them, in time.

    Args:
        cells: What each is called and its names, in the order in which they run.

    Raises:
        NotebookError: naming what is missing, and which cell needs it.
    """
    if any(names.is_open for _, names in cells):
        return  # what a star imports is known only where it is installed
    everything = PROVIDED.union(*(names.defined for _, names in cells))
    defined: set[str] = set(PROVIDED)
    for where, names in cells:
        defined |= names.defined
        _refuse(where, (names.needed_at_once | names.needed_later) - everything)
        late = names.needed_at_once - defined
        if late:
            raise NotebookError(
                f"{where} needs {_listed(late)}, which a later cell defines. Jobs run the cells in the order "
                "of the notebook; put the definition first.",
                names=sorted(late),
            )


def _refuse(where: str, missing: Collection[str]) -> None:
    if missing:
        raise NotebookError(
            f"{where} needs {_listed(missing)}, which no packaged cell defines. A job has the cells that are "
            "marked `%%ml_code` and nothing else of the notebook: mark the cell that defines it, or define "
            "it here.",
            names=sorted(missing),
        )


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def keep_last_value(text: str) -> str:
    """Return a cell whose last line, where it is an expression, is kept under the name of the result."""
    tree = ast.parse(text)
    if not tree.body or not isinstance(tree.body[-1], ast.Expr):
        return text
    last = tree.body[-1]
    lines = text.encode().splitlines(keepends=True)  # columns of a syntax tree count bytes
    before = b"".join(lines[: last.lineno - 1]) + lines[last.lineno - 1][: last.col_offset]
    after = b"".join(lines)[len(before) :]
    return (before + f"{RESULT} = (".encode() + _close(after, last, lines)).decode()


def _close(after: bytes, last: ast.Expr, lines: Sequence[bytes]) -> bytes:
    """Close the parenthesis right behind the expression, before a comment or semicolon."""
    end_line, end_column = last.end_lineno or last.lineno, last.end_col_offset or 0
    start = sum(map(len, lines[: last.lineno - 1])) + last.col_offset
    length = sum(map(len, lines[: end_line - 1])) + end_column - start
    return after[:length] + b")" + after[length:]


def _descendants(table: symtable.SymbolTable) -> list[symtable.SymbolTable]:
    nodes = []
    for child in table.get_children():
        nodes += [child, *_descendants(child)]
    return nodes
