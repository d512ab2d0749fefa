from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage import data

from pipeline.preprocess.duplicates import (
    HASH_BITS,
    NEAR_BITS,
    NearIndex,
    Picture,
    SeenPicture,
    group_pictures,
)
from pipeline.preprocess.facts import perceive_pixels

COLOUR = "80" * 12


def picture(id: str, bits: int | None = None, *, group: str | None = None, colour: str = COLOUR) -> Picture:
    phash = None if bits is None else f"{bits:064x}"
    return Picture(id=id, source_group=group, phash=phash, colour=colour)


def seen(picture: Picture, group: str, split: str) -> SeenPicture:
    return SeenPicture(id=picture.id, group=group, split=split, phash=picture.phash, colour=picture.colour)


def flipped(count: int, seed: int = 0) -> int:
    places = np.random.default_rng(seed).choice(HASH_BITS, count, replace=False)
    return sum(1 << int(place) for place in places)


A = picture("a", 0)
FAR = picture("far", flipped(128))
NEAR_A = picture("near a", flipped(NEAR_BITS))


class TestNearIndex:
    @pytest.mark.parametrize("seed", range(50))
    def test_finds_all_within_the_limit_and_none_beyond(self, seed: int) -> None:
        index = NearIndex()
        index.add("a", A.phash, A.colour)
        assert index.find(f"{flipped(NEAR_BITS, seed):064x}", COLOUR) == ["a"]
        assert index.find(f"{flipped(NEAR_BITS + 1, seed):064x}", COLOUR) == []

    def test_differences_spread_over_the_whole_hash_hide_nothing(self) -> None:
        index = NearIndex()
        index.add("a", A.phash, A.colour)
        spread = sum(1 << (place * HASH_BITS // NEAR_BITS) for place in range(NEAR_BITS))
        assert index.find(f"{spread:064x}", COLOUR) == ["a"]

    def test_same_shape_in_another_colour_is_another_picture(self) -> None:
        index = NearIndex()
        index.add("a", A.phash, A.colour)
        assert index.find(A.phash, "80" * 11 + "a0") == []

    def test_flat_pictures_are_near_nothing(self) -> None:
        red, blue = (np.full((8, 8, 3), level, np.uint8) for level in ((255, 0, 0), (0, 0, 255)))
        assert perceive_pixels(red)[0] is None
        assert perceive_pixels(blue)[0] is None
        assert len(set(group_pictures([picture("x"), picture("y")]).groups.values())) == 2


def photograph(name: str) -> Image.Image:
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def saved_badly(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")


class TestRealPictures:
    @pytest.mark.parametrize("name", ["astronaut", "coffee", "brick", "camera"])
    def test_halved_recompressed_and_brightened_copies_are_near(self, name: str) -> None:
        original = photograph(name)
        half = original.resize((original.width // 2, original.height // 2), Image.Resampling.BILINEAR)
        bright = ImageEnhance.Brightness(original).enhance(1.05)
        index = NearIndex()
        index.add(name, *perceive_pixels(np.asarray(original)))
        for copy in (half, saved_badly(original), bright):
            assert index.find(*perceive_pixels(np.asarray(copy))) == [name]

    def test_tiles_of_one_texture_are_not_merged(self) -> None:
        bricks = np.asarray(photograph("brick"))
        tiles = [bricks[y : y + 64, x : x + 64] for y in range(0, 512, 64) for x in range(0, 512, 64)]
        pictures = []
        for number, tile in enumerate(tiles):
            phash, colour = perceive_pixels(tile)
            pictures.append(Picture(id=str(number), source_group=None, phash=phash, colour=colour))
        assert len(set(group_pictures(pictures).groups.values())) == 64


class TestGroups:
    def test_are_named_by_their_first_member(self) -> None:
        assert group_pictures([A, FAR, NEAR_A]).groups == {"a": "a", "far": "far", "near a": "a"}

    def test_chains_and_source_groups_join(self) -> None:
        pictures = [A, picture("s", flipped(100, 3), group="g"), replace(NEAR_A, source_group="g")]
        assert set(group_pictures(pictures).groups.values()) == {"a"}

    def test_the_name_stays_when_the_first_member_leaves(self) -> None:
        old = [seen(A, "a", "test"), seen(NEAR_A, "a", "test")]
        newcomer = picture("new", flipped(NEAR_BITS - 4))
        assert group_pictures([NEAR_A, newcomer], old).groups["new"] == "a"

    def test_a_picture_near_one_that_left_joins_its_side(self) -> None:
        assert group_pictures([NEAR_A], [seen(A, "a", "test")]).groups["near a"] == "a"

    def test_a_bridge_between_two_groups_of_one_side_joins_them(self) -> None:
        old = [seen(A, "a", "train"), seen(FAR, "far", "train")]
        bridge = replace(NEAR_A, source_group="g")
        groups = group_pictures([A, replace(FAR, source_group="g"), bridge], old).groups
        assert groups == {"a": "a", "far": "a", "near a": "a"}


class TestStraddling:
    OLD = (seen(A, "a", "train"), seen(FAR, "far", "test"))
    BRIDGE = replace(NEAR_A, source_group="g")
    FAR_IN_G = replace(FAR, source_group="g")

    def test_a_bridge_between_train_and_test_is_kept_out(self) -> None:
        grouping = group_pictures([A, self.FAR_IN_G, self.BRIDGE], self.OLD)
        assert grouping.straddling == {"near a"}
        assert grouping.groups == {"a": "a", "far": "far"}

    def test_it_links_nothing_itself(self) -> None:
        friend = picture("friend", flipped(NEAR_BITS) ^ flipped(20, 9))
        grouping = group_pictures([A, self.FAR_IN_G, self.BRIDGE, friend], self.OLD)
        assert grouping.groups["friend"] == "friend"

    def test_a_new_group_takes_the_side_it_meets_first(self) -> None:
        first = picture("first", flipped(NEAR_BITS), group="g")
        second = replace(FAR, id="second", source_group="g")
        grouping = group_pictures([A, FAR, first, second], self.OLD)
        assert grouping.groups["first"] == "a"
        assert grouping.straddling == {"second"}

    def test_pictures_of_earlier_versions_stay_where_they_are(self) -> None:
        old = (*self.OLD, seen(NEAR_A, "far", "test"))
        grouping = group_pictures([A, FAR, NEAR_A], old)
        assert grouping.straddling == set()
        assert grouping.groups["near a"] == "far"
