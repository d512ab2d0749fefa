"""Near duplicates: found among real pictures, and nothing else merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.preprocess.dedup.fingerprint import fingerprint_pixels
from pipeline.preprocess.dedup.near import HASH_BITS, SAME_BITS, NearIndex
from tests.fakes.pictures import COPIES

COLOUR = "80" * 12
# The three pairs of kangaroo_raccoon that show one photograph twice: two sizes, two sizes, with a caption.
TRUE_DUPLICATES = {
    ("raccoon-50.jpg", "raccoon-52.jpg"),
    ("raccoon-21.jpg", "raccoon-45.jpg"),
    ("raccoon-51.jpg", "raccoon-85.jpg"),
}


def look(bits: int, colour: str = COLOUR, *, id: str = "other") -> ImageFingerprint:
    return ImageFingerprint(id=id, phash=f"{bits:064x}", colour=colour)


def look_at(image: Image.Image, id: str = "other") -> ImageFingerprint:
    return replace(fingerprint_pixels(np.asarray(image.convert("RGB"))), id=id)


def index_of(pictures: dict[str, Image.Image]) -> NearIndex:
    index = NearIndex()
    for name, image in pictures.items():
        index.add(look_at(image, name))
    return index


def flipped(count: int, seed: int = 0) -> int:
    places = np.random.default_rng(seed).choice(HASH_BITS, count, replace=False)
    return sum(1 << int(place) for place in places)


class TestHashes:
    @pytest.mark.parametrize("seed", range(20))
    def test_all_within_the_limit_are_found_and_none_beyond(self, seed: int) -> None:
        index = NearIndex()
        index.add(look(0, id="a"))
        assert index.find(look(flipped(SAME_BITS, seed))) == ["a"]
        assert index.find(look(flipped(SAME_BITS + 1, seed))) == []

    def test_same_shape_in_another_colour_is_another_picture(self) -> None:
        index = NearIndex()
        index.add(look(0, id="a"))
        assert index.find(look(0, "80" * 11 + "a0")) == []

    def test_many_pictures_are_remembered_in_order(self) -> None:
        index = NearIndex()
        for number in range(200):
            index.add(look(flipped(128, number), id=str(number)))
        index.add(look(flipped(128, 130), id="again"))
        assert index.find(look(flipped(128, 130))) == ["130", "again"]

    def test_flat_pictures_are_near_nothing(self) -> None:
        red = look_at(Image.new("RGB", (80, 80), (255, 0, 0)))
        assert red.phash is None
        index = NearIndex()
        index.add(replace(red, id="red"))
        assert index.find(red) == []


def photographs() -> dict[str, Image.Image]:
    return {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in ("astronaut", "coffee")}


def tiles() -> dict[str, Image.Image]:
    """64 tiles of one wall: pictures of one subject that all differ."""
    wall = Image.fromarray(data.brick()).convert("RGB")
    places = [(x, y) for y in range(0, 512, 64) for x in range(0, 512, 64)]
    return {f"{x},{y}": wall.crop((x, y, x + 64, y + 64)) for x, y in places}


class TestRealPictures:
    @pytest.mark.parametrize("kind", sorted(COPIES))
    def test_copies_are_near_their_originals_and_no_other(self, kind: str) -> None:
        originals = photographs() | dict(list(tiles().items())[::4])
        index = index_of(originals)
        assert {name: index.find(look_at(COPIES[kind](image))) for name, image in originals.items()} == {
            name: [name] for name in originals
        }

    def test_tiles_of_one_wall_are_all_different(self) -> None:
        pictures = tiles()
        index = index_of(pictures)
        assert {name: index.find(look_at(image)) for name, image in pictures.items()} == {
            name: [name] for name in pictures
        }

    def test_a_recoloured_picture_is_another_one(self) -> None:
        picture = photographs()["astronaut"]
        index = index_of({"astronaut": picture})
        red, green, blue = picture.split()
        assert index.find(look_at(Image.merge("RGB", (blue, green, red)))) == []


@pytest.fixture(scope="module")
def animals(shared_data: Path) -> dict[str, Image.Image]:
    files = sorted((shared_data / "kangaroo_raccoon").glob("*/*.jpg"))
    return {path.name: Image.open(path).convert("RGB") for path in files}


def partners(animals: dict[str, Image.Image]) -> Iterator[tuple[str, str]]:
    index = NearIndex()
    for name, image in animals.items():
        seen = look_at(image)
        yield from ((other, name) for other in index.find(seen))
        index.add(replace(seen, id=name))


@pytest.mark.shared_data
class TestSharedPictures:
    def test_only_true_duplicates_are_merged(self, animals: dict[str, Image.Image]) -> None:
        assert len(animals) == 358
        assert set(partners(animals)) == TRUE_DUPLICATES

    def test_copies_of_a_hundred_pictures_find_their_originals(self, animals: dict[str, Image.Image]) -> None:
        index = index_of(animals)
        twins = {frozenset(pair) for pair in TRUE_DUPLICATES}
        found: Counter[str] = Counter()
        chosen = list(animals)[::3][:100]
        for name in chosen:
            for kind, copy in COPIES.items():
                near = index.find(look_at(copy(animals[name])))
                found[kind] += name in near
                assert all({name, other} in twins for other in near if other != name), (kind, name, near)
        assert len(chosen) == 100
        assert {kind: count for kind, count in found.items() if count < 95} == {}
