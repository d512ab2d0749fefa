"""Runs the notebooks of the documentation and keeps their outputs: `make notebooks`, after `make demo`.

What differs from machine to machine is left out: times, paths, and the frames that reports are shown in.
"""

from __future__ import annotations

import base64
import re
from io import BytesIO

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from pipeline.config import PROJECT_ROOT, Settings

FOLDER = PROJECT_ROOT / "docs" / "notebooks"
CELL_SECONDS = 900
HOME = "/home/ann/graft/.graft"
COLOURS = 64
FRAME = re.compile(r"<iframe.*?</iframe>", re.S)
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")
KEPT = ("image/png", "text/html", "text/plain")  # the first that an output has is shown


def main() -> None:
    """Run every notebook on the stack of `GRAFT_HOME`, and write it with its outputs."""
    home = Settings().home.resolve()
    for path in sorted(FOLDER.glob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        place = {"metadata": {"path": str(home)}}
        NotebookClient(book, timeout=CELL_SECONDS, kernel_name="python3", resources=place).execute()
        for cell in book.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = [tidy(output, str(home)) for output in merge(cell.outputs)]
        nbformat.write(book, path)


def merge(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with the texts of one stream together, however they were sent; warnings are left out."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            continue
        last = merged[-1] if merged else None
        if last is not None and output.output_type == "stream" and last.output_type == "stream":
            last.text += output.text
        else:
            merged.append(output)
    return merged


def tidy(output: NotebookNode, home: str) -> NotebookNode:
    """Return an output without what is of this machine, and without what is shown in another form."""
    if output.output_type == "stream":
        output.text = COLOUR_CODES.sub("", output.text).replace(home, HOME)
        return output
    kind = next(kind for kind in KEPT if kind in output.data)
    value = output.data[kind]
    if kind == "image/png":
        output.data = NotebookNode({kind: shrink(value)})
    else:
        shown = FRAME.sub("<p>The run's report is shown here.</p>", value).replace(home, HOME)
        output.data = NotebookNode({kind: shown})
    output.metadata = NotebookNode()
    return output


def shrink(png: str) -> str:
    """Return a picture in few colours."""
    picture, buffer = Image.open(BytesIO(base64.b64decode(png))), BytesIO()
    if picture.mode not in ("L", "P"):
        picture = picture.convert("RGB").quantize(COLOURS)
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    main()
