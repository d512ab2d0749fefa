"""The `surfaces` pictures: tiles of the brick, grass and gravel photographs that scikit-image ships.

The three photographs (512 x 512, grayscale, CC0) are files of the installed wheel: nothing is downloaded, and
scikit-image itself is not imported.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from PIL import Image

from pipeline.artifacts.provenance import Provenance
from pipeline.datasets.sources.source import SourceEntry
from pipeline.errors import EmptyDataset, SourceNotFound
from pipeline.types import JsonObject

TILE_SIZE = 64  # pixels
TILES_A_SIDE = 8  # of a photograph's 512 pixels
BLOCK_TILES = 2  # a group is a block of 2 x 2 tiles: neighbours stay on one side of the split
PAGES = {
    "brick": "https://cc0textures.com/view.php?tex=Bricks25",
    "grass": "https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    "gravel": "https://cc0textures.com/view.php?tex=Gravel04",
}
CREATORS = {"brick": "CC0Textures", "grass": "linolafett", "gravel": "CC0Textures"}
LICENSE_URL = "https://creativecommons.org/publicdomain/zero/1.0/"


class SampleSource:
    """Tiles of three photographs, a class each.

    Args:
        classes: Which of brick, grass and gravel, in which order; None for all three.
        label: The class of all of them.
    """

    def __init__(self, *, classes: list[str] | None, label: str | None = None) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._classes = sorted(PAGES) if classes is None else classes
        self._label = label
        self._photograph = lru_cache(maxsize=1)(self._open)

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every tile, all in the first chunk.

        Raises:
            EmptyDataset: if a class is none of the three.
            SourceNotFound: if scikit-image or its photographs are not installed.
        """
        unknown = [name for name in self._classes if name not in PAGES]
        if unknown:
            raise EmptyDataset(
                f"the sample pictures have no class {', '.join(unknown)}; "
                f"`classes` may name {', '.join(sorted(PAGES))}.",
                classes=unknown,
            )
        if chunk:
            return
        validator = f"scikit-image {version('scikit-image')}, {TILE_SIZE} px"
        position = 0
        for label in self._classes:
            _find_photograph(label)
            for row, column in product(range(TILES_A_SIDE), repeat=2):
                yield SourceEntry(
                    position=position,
                    label=self._label or label,
                    provenance=Provenance(
                        source_url=f"skimage:data/{label}.png#row={row}&column={column}",
                        page_url=PAGES[label],
                        creator=CREATORS[label],
                        license="CC0-1.0",
                        license_url=LICENSE_URL,
                    ),
                    validator=validator,
                    read=lambda label=label, row=row, column=column: self._tile(label, row, column),  # type: ignore[misc]
                    group=f"{label}/{row // BLOCK_TILES}/{column // BLOCK_TILES}",
                )
                position += 1

    def _open(self, label: str) -> Image.Image:
        with Image.open(_find_photograph(label)) as photograph:
            self.transferred += 1
            return photograph.convert("L")

    def _tile(self, label: str, row: int, column: int) -> bytes:
        left, top = column * TILE_SIZE, row * TILE_SIZE
        tile = self._photograph(label).crop((left, top, left + TILE_SIZE, top + TILE_SIZE))
        buffer = io.BytesIO()
        tile.save(buffer, "PNG")
        return buffer.getvalue()


def _find_photograph(label: str) -> Path:
    package = find_spec("skimage")
    path = Path((package and package.origin) or "skimage/__init__.py").parent / "data" / f"{label}.png"
    if not path.is_file():
        raise SourceNotFound(
            f"scikit-image's photograph {path} is not there; install it: pip install scikit-image.",
            path=str(path),
        )
    return path
