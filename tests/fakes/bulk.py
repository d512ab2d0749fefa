"""A folder of pictures to predict in bulk, and the rows of the CSV file that comes of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path


def photos(parent: Path) -> Path:
    """Write seven files, of which four are pictures by their names and one of these is none."""
    folder = parent / "photos"
    contents = {
        "a.jpg": b"ant",
        "sub/b.png": b"bee",
        "sub/no_extension": b"cat",
        "z.jpg": b"bad",
        "notes.md": b"",
        ".hidden.jpg": b"",
        "sub/Thumbs.db": b"",
    }
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
