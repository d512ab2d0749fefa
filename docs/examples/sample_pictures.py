"""Write sample pictures of Graft as files, a folder for each class: for whoever has no pictures at hand.

They are tiles of photographs that are installed with Graft; no network is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.datasets.sources.sample import PAGES, SampleSource


def write_pictures(folder: Path, classes: list[str], count: int) -> None:
    """Write pictures of each class as `CLASS/NUMBER.png`.

    Args:
        folder: Gets a sub-folder for each class.
        classes: Which ones.
        count: How many pictures of each class, at most 64.
    """
    numbers = dict.fromkeys(classes, 0)
    for entry in SampleSource(classes=classes).entries(0, 1):
        numbers[entry.label] = number = numbers[entry.label] + 1
        if number <= count and entry.read is not None:
            file = folder / entry.label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(entry.read())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write sample pictures, a folder for each class.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("classes", nargs="*", metavar="class", help=", ".join(PAGES))
    parser.add_argument("--count", type=int, default=40, help="pictures of each class, at most 64")
    options = parser.parse_args()
    write_pictures(options.folder, options.classes or sorted(PAGES), options.count)
