"""Builds the package of a job from marked cells: a file for each, and the program that runs them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.notebook.collection import Cell
from pipeline.notebook.source import check_names, keep_last_value
from pipeline.submission.package import CLOSURE, Package, build_sdist, read_modules

MODULE = "trainer.task"
_TASK = b'''"""Runs the cells beside it in the order that `--cells` gives."""

import sys
from pathlib import Path

from pipeline.trainer.cells import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent / "cells"))
'''


def build_cell_package(
    code: Sequence[Cell], entry: Cell, *, install_requires: Sequence[str] = ()
) -> tuple[Package, list[str]]:
    """Build the package of a job, and the arguments that say in which order its cells run.

    The order is not part of the package, so the same texts give the same bytes however they came to be.

    It carries what training jobs have of Graft, so that cells may use its networks and its storage.

    Args:
        code: The cells marked `%%ml_code`, in order.
        entry: The cell that is run; the value of its last line is the job's result.
        install_requires: What is installed with it.

    Raises:
        NotebookError: if a cell needs a name that none defines.
    """
    check_names([(cell.where, cell.names) for cell in (*code, entry)])
    entry_text = keep_last_value(entry.text)
    files = {cell.digest: cell.text for cell in code}
    run = f"{entry.digest}_run"
    files[run] = entry_text
    members = {f"trainer/cells/{name}.py": text.encode() for name, text in files.items()}
    members |= {"trainer/__init__.py": b"", "trainer/cells/__init__.py": b"", "trainer/task.py": _TASK}
    package = build_sdist(
        "trainer", "0.0.0", members | read_modules(CLOSURE), install_requires=sorted(install_requires)
    )
    return package, ["--cells", *(cell.digest for cell in code), run]
