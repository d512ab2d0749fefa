"""The cells that are marked to be packaged: each once, in the order of the notebook."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.notebook.source import CellNames, read_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A marked cell.

    Args:
        text: What was last run in it.
        names: What it defines and needs.
        id: The notebook's own, where it tells.
        title: What the user calls it, `%%ml_code TITLE`.
        ran: When, in seconds of the epoch.
    """

    text: str
    names: CellNames
    id: str | None = None
    title: str = ""
    ran: float = field(default_factory=time.time, compare=False)

    @property
    def digest(self) -> str:
        """Names its file in the package."""
        return "cell_" + hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def where(self) -> str:
        """What it is called in messages."""
        first = next((line.strip() for line in self.text.splitlines() if line.strip()), "")
        return f"The cell {self.title or repr(first[:60])}"

    def replaces(self, old: Cell) -> bool:
        """Return True if this is another run of an earlier cell.

        The notebook's id of the cell says so, or its title. Without them it is the same text, or a cell that
        defines all that the earlier one did and needs none of it beforehand.
        """
        if self.title or old.title:
            return self.title == old.title
        if self.id and old.id:
            return self.id == old.id
        if self.text == old.text:
            return True
        theirs = old.names.own
        return bool(theirs) and theirs <= self.names.own and not theirs & self.names.needed_at_once


class CellCollection:
    """The marked cells of one kernel."""

    def __init__(self) -> None:
        self._cells: list[Cell] = []

    def add(self, text: str, *, id: str | None = None, title: str = "") -> Cell:
        """Keep a cell in the place of its earlier run, or behind all others.

        Raises:
            NotebookError: if it is no Python.
        """
        cell = make_cell(text, id=id, title=title)
        for place, old in enumerate(self._cells):
            if cell.replaces(old):
                self._cells[place] = cell
                return cell
        self._cells.append(cell)
        return cell

    def clear(self) -> None:
        """Forget all cells."""
        self._cells.clear()

    def ordered(self, notebook: NotebookOrder | None = None) -> list[Cell]:
        """Return the cells in the notebook's order.

        Where that is not known it is the order of their first runs, but a cell comes behind what it needs.

        Args:
            notebook: The order in the notebook's file. A cell that is not in it is gone, unless it was run
                after the file was saved.
        """
        if notebook is None:
            return _definitions_first(self._cells)
        place = {id: number for number, id in enumerate(notebook.ids)}
        present = [
            cell for cell in self._cells if cell.id in place or not cell.id or cell.ran > notebook.saved
        ]
        return sorted(present, key=lambda cell: place.get(cell.id or "", len(place)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookOrder:
    """The cells of a notebook as its file has them.

    Args:
        ids: Of the cells, from the top.
        saved: When, in seconds of the epoch.
    """

    ids: Sequence[str]
    saved: float


def _definitions_first(cells: Sequence[Cell]) -> list[Cell]:
    left, ordered = list(cells), []
    while left:
        ready = (cell for cell in left if not _waits(cell, left))
        chosen = next(ready, left[0])  # cells that need each other stay as they are, and are refused later
        left.remove(chosen)
        ordered.append(chosen)
    return ordered


def _waits(cell: Cell, left: Sequence[Cell]) -> bool:
    needs = cell.names.needed_at_once - cell.names.defined
    return any(needs & other.names.defined for other in left if other is not cell)


def make_cell(text: str, *, id: str | None = None, title: str = "") -> Cell:
    """Read a cell.

    Raises:
        NotebookError: if it is no Python.
    """
    where = f"The cell {title}" if title else "The cell"
    return Cell(text=text, names=read_names(text, where=where), id=id, title=title)


def read_notebook_order(path: Path) -> NotebookOrder | None:
    """Return the order of a notebook's cells as its file has them; None where the file tells none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        ids = [str(cell["id"]) for cell in value["cells"] if "id" in cell]
        return NotebookOrder(ids=ids, saved=path.stat().st_mtime) if ids else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
