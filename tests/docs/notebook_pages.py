"""Writes the notebooks as pages of the site, with their outputs: a part of `make docs`."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FENCE = "```"


def main(folder: Path) -> None:
    """Write a page beside each notebook of a folder.

    Args:
        folder: Has the notebooks.
    """
    for path in sorted(folder.glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        blocks = [block for number, cell in enumerate(cells) for block in show(cell, path, number)]
        path.with_suffix(".md").write_text("\n\n".join(blocks) + "\n")


def show(cell: dict[str, Any], path: Path, number: int) -> Iterator[str]:
    """Yield a cell and its outputs as blocks of Markdown; pictures become files beside the page."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        yield source
        return
    yield f"{FENCE}python\n{source}\n{FENCE}"
    for place, output in enumerate(cell["outputs"]):
        if output["output_type"] == "stream":
            yield f"{FENCE}text\n{''.join(output['text']).rstrip()}\n{FENCE}"
        else:
            yield from show_data(output["data"], path.with_name(f"{path.stem}_{number}_{place}.png"))


def show_data(data: dict[str, Any], picture: Path) -> Iterator[str]:
    """Yield one output."""
    if "image/png" in data:
        picture.write_bytes(base64.b64decode("".join(data["image/png"])))
        yield f"![What the cell shows]({picture.name})"
    elif "text/html" in data:
        html = "".join(data["text/html"])
        yield f"<div>{' '.join(html.split())}</div>"
    elif "text/plain" in data:
        yield f"{FENCE}text\n{''.join(data['text/plain'])}\n{FENCE}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
