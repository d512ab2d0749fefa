from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.sources.sample import TILE_SIZE, SampleSource
from pipeline.errors import EmptyDataset


def test_tiles_are_the_photograph_cut_without_overlap() -> None:
    from skimage import data

    entries = [entry for entry in SampleSource(classes=None).entries(0, 1) if entry.label == "brick"]
    tiles = [np.asarray(Image.open(io.BytesIO(entry.read()))) for entry in entries]
    rows = [np.concatenate(tiles[start : start + 8], axis=1) for start in range(0, 64, 8)]
    np.testing.assert_array_equal(np.concatenate(rows), data.brick())


def test_every_class_has_64_tiles_in_16_blocks() -> None:
    entries = list(SampleSource(classes=None).entries(0, 1))
    assert Counter(entry.label for entry in entries) == {"brick": 64, "grass": 64, "gravel": 64}
    assert set(Counter(entry.group for entry in entries).values()) == {4}
    assert TILE_SIZE * 8 == 512


def test_a_block_is_a_square_of_neighbours() -> None:
    first = next(iter(SampleSource(classes=None).entries(0, 1))).group
    urls = [entry.source_url for entry in SampleSource(classes=None).entries(0, 1) if entry.group == first]
    assert [url.partition("#")[2] for url in urls] == [
        "row=0&column=0", "row=0&column=1", "row=1&column=0", "row=1&column=1",
    ]  # fmt: skip


def test_reading_all_tiles_opens_three_photographs() -> None:
    source = SampleSource(classes=None)
    for entry in source.entries(0, 1):
        entry.read()
    assert source.transferred == 3


def test_later_chunks_are_empty() -> None:
    assert list(SampleSource(classes=None).entries(1, 2)) == []


def test_unknown_class_lists_the_known() -> None:
    with pytest.raises(EmptyDataset, match="no class sand; `classes` may name brick, grass, gravel"):
        list(SampleSource(classes=["brick", "sand"]).entries(0, 1))
