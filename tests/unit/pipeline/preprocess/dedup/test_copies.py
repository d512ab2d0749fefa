"""Altered copies: found among real pictures, and nothing else merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.pixels.host import decode_picture
from pipeline.preprocess.dedup.affine import crop_move, fit_affine, gaussian_matrix, read_moved, scale_of
from pipeline.preprocess.dedup.candidates import TURNS, find_candidates, turn_picture
from pipeline.preprocess.dedup.copies import find_copies, shrink_picture
from pipeline.preprocess.dedup.fingerprint import fingerprint_pixels
from pipeline.types import UInt8Image
from tests.fakes.pictures import ALTERED, jpeg, mirror
from tests.unit.pipeline.preprocess.dedup.test_near import (
    TRUE_DUPLICATES as NEAR_DUPLICATES,
    photographs,
    tiles,
)

CHOSEN = 60
TRUE_DUPLICATES = {frozenset(pair) for pair in NEAR_DUPLICATES}
LEAST = {
    "mirrored": 0.9,
    "90 degrees": 0.9,
    "180 degrees": 0.9,
    "270 degrees": 0.9,
    "gray": 0.9,
    "10 % of each side": 0.9,
    "20 % of each side": 0.7,
    "5 degrees": 0.7,
}


class Pictures:
    """Pictures by name, and how often they were read again."""

    def __init__(self, images: Mapping[str, Image.Image]) -> None:
        self.files = {name: jpeg(np.asarray(image.convert("RGB"))) for name, image in images.items()}
        self.read: list[str] = []

    def fingerprints(self) -> list[ImageFingerprint]:
        return [
            replace(fingerprint_pixels(decode_picture(data)), id=name) for name, data in self.files.items()
        ]

    def reread(self, names: Sequence[str]) -> dict[str, UInt8Image]:
        self.read += names
        return {name: shrink_picture(self.files[name]) for name in names if name in self.files}

    def copies(
        self, is_new: Callable[[str], bool] = lambda name: True, *, turned: bool = True
    ) -> set[frozenset[str]]:
        pairs = find_copies(self.fingerprints(), is_new, self.reread, turned=turned)
        return {frozenset(pair) for pair in pairs}


class TestAffine:
    def test_a_crop_is_recovered_to_a_thousandth(self) -> None:
        levels = np.asarray(photographs()["coffee"].convert("L").resize((96, 96)), np.float64)[None]
        wanted = np.array([[0.7, 0.05, -0.04, 0.72, 0.06, -0.03]])
        target, inside = read_moved(levels, wanted, 40)
        assert inside.all()
        fit = fit_affine(levels, target * 0.8 + 12, crop_move(0.12)[None], steps=8)
        assert fit.left_over[0] < 1e-3
        assert fit.move == pytest.approx(wanted, abs=2e-3)
        assert (fit.gain[0], fit.offset[0]) == pytest.approx((0.8, 12), abs=0.5)

    def test_another_picture_does_not_fit(self) -> None:
        one, other = (
            np.asarray(image.convert("L").resize((40, 40)), np.float64)[None]
            for image in photographs().values()
        )
        assert fit_affine(one, other, crop_move(0)[None], steps=5).left_over[0] > 0.3

    def test_the_scale_of_a_crop_is_what_is_left(self) -> None:
        assert scale_of(crop_move(0.1)[None])[0] == pytest.approx(0.8)


class TestCandidates:
    @pytest.mark.parametrize("turn", range(TURNS))
    def test_each_turn_is_undone_by_the_turn_that_is_proposed(self, turn: int) -> None:
        random = np.random.default_rng(0)
        first = np.asarray(
            Image.fromarray(random.integers(0, 256, (6, 6), np.uint8)).resize(
                (24, 24), Image.Resampling.BICUBIC
            )
        )
        second = np.ascontiguousarray(turn_picture(first, turn))
        (candidate,) = find_candidates(np.stack([first, second]), np.array([True, True]))
        assert (candidate.one, candidate.other, candidate.crop) == (1, 0, 0.0)
        assert np.array_equal(turn_picture(second, candidate.turn), first)

    def test_pictures_that_were_compared_before_are_not_compared_with_each_other(self) -> None:
        one = np.asarray(photographs()["coffee"].convert("L").resize((24, 24)))
        thumbnails = np.stack([one, one, one])
        pairs = {(c.one, c.other) for c in find_candidates(thumbnails, np.array([True, False, False]))}
        assert pairs == {(0, 1), (0, 2)}


class TestRealPictures:
    @pytest.mark.parametrize("kind", sorted(ALTERED))
    def test_an_altered_copy_is_found_and_no_other(self, kind: str) -> None:
        images = photographs() | dict(list(tiles().items())[::8])
        altered = {f"{name} altered": ALTERED[kind](images[name]) for name in photographs()}
        wanted = {frozenset((name, f"{name} altered")) for name in photographs()}
        assert Pictures(images | altered).copies() == wanted

    def test_the_original_may_come_later(self) -> None:
        for kind in ("20 % of each side", "90 degrees", "gray"):
            images = photographs()
            altered = {f"{name} altered": ALTERED[kind](image) for name, image in images.items()}
            assert len(Pictures(altered | images).copies()) == len(images)

    def test_mirrored_copies_are_looked_for_unless_told_not_to(self) -> None:
        image = photographs()["astronaut"]
        pictures = Pictures({"one": image, "other": mirror(image)})
        assert pictures.copies(turned=False) == set()
        assert pictures.copies() == {frozenset(("one", "other"))}

    def test_tiles_of_one_wall_are_all_different(self) -> None:
        assert Pictures(tiles()).copies() == set()

    def test_only_pictures_that_look_alike_are_read_again(self) -> None:
        image = photographs()["astronaut"]
        pictures = Pictures(tiles() | {"one": image, "other": mirror(image)})
        pictures.copies(lambda name: name == "other")
        assert sorted(pictures.read) == ["one", "other"]

    def test_a_picture_that_cannot_be_read_again_is_no_copy(self) -> None:
        image = photographs()["astronaut"]
        pictures = Pictures({"one": image, "other": mirror(image)})
        prints = pictures.fingerprints()
        assert find_copies(prints, lambda name: True, lambda names: {}) == []

    def test_a_recoloured_mirror_is_another_picture(self) -> None:
        image = photographs()["astronaut"]
        red, green, blue = mirror(image).split()
        assert Pictures({"one": image, "other": Image.merge("RGB", (blue, green, red))}).copies() == set()


class TestDrawings:
    """Smooth pictures that any crop of each other explains."""

    def test_two_slopes_are_not_copies(self) -> None:
        row = np.linspace(0, 200, 96)
        one = np.repeat(np.tile(row, (96, 1))[..., None], 3, axis=2).astype(np.uint8)
        other = np.repeat(np.tile(row * 0.6 + 60, (96, 1))[..., None], 3, axis=2).astype(np.uint8)
        images = {"one": Image.fromarray(one), "other": Image.fromarray(other)}
        assert Pictures(images).copies() == set()


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["kangaroo_raccoon", "sign_digits"])
def test_copies_of_sixty_shared_pictures_find_their_originals(name: str, shared_data: Path) -> None:
    files = sorted((shared_data / name).glob("*/*.*"))
    images = {path.name: Image.open(path).convert("RGB") for path in files}
    chosen = list(images)[:: len(images) // CHOSEN][:CHOSEN]
    originals, found = Pictures(images), {}
    prints = originals.fingerprints()
    for kind in LEAST:
        copies = Pictures({f"{each}*": ALTERED[kind](images[each]) for each in chosen})
        files_of = Pictures({})
        files_of.files = originals.files | copies.files
        pairs = find_copies(prints + copies.fingerprints(), lambda name: name.endswith("*"), files_of.reread)
        found[kind] = len({pair for pair in pairs if pair[1] == f"{pair[0]}*"})
        others = {frozenset(each.removesuffix("*") for each in pair) for pair in pairs}
        assert {pair for pair in others if len(pair) > 1} <= TRUE_DUPLICATES
    assert {kind: found[kind] for kind, least in LEAST.items() if found[kind] < least * CHOSEN} == {}


@pytest.mark.parametrize("sigma", [0.1, 0.408, 1.0, 2.3, 7.0])
def test_blurs_as_scipy_does(sigma: float) -> None:
    from scipy.ndimage import gaussian_filter

    picture = np.random.default_rng(1).uniform(0, 255, (24, 24))
    blur = gaussian_matrix(24, sigma)
    assert np.allclose(blur @ picture @ blur.T, gaussian_filter(picture, sigma), rtol=1e-12)
