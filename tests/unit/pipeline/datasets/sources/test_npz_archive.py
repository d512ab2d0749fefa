from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.sources.npz_archive import NpzSource
from pipeline.datasets.sources.source import SourceEntry
from pipeline.errors import BadArchive, EmptyDataset, SourceNotFound
from pipeline.pixels.host import decode_picture
from pipeline.storage import Storage
from tests.fakes.pictures import noise

PICTURES = np.stack([noise(seed, 4) for seed in range(4)])
PICTURES[0, 0, 0] = (0, 255, 7)
LABELS = np.array([0, 0, 1, 1])


def source_of(path: Path, *, classes: tuple[str, ...] = ("opera", "capitol"), **arrays: object) -> NpzSource:
    if arrays:
        np.savez(path, **arrays)  # type: ignore[arg-type]
    return NpzSource(str(path), classes=list(classes), storage=Storage({}), previous={})


def pixels_of(entry: SourceEntry) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(entry.read())))


class TestRows:
    @pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
    def test_become_lossless_pictures_in_order(self, tmp_path: Path, kind: type) -> None:
        source = source_of(tmp_path / "a.npz", features=PICTURES.astype(kind), labels=LABELS.astype(kind))
        for row, entry in enumerate(source.entries(0, 1)):
            assert (entry.position, entry.label) == (row, ["opera", "capitol"][LABELS[row]])
            assert entry.source_url == f"{(tmp_path / 'a.npz').as_uri()}#{row}"
            np.testing.assert_array_equal(pixels_of(entry), PICTURES[row])
        assert source.transferred == 1
        assert source.statements == []

    def test_a_skipped_row_does_not_shift_the_next(self, tmp_path: Path) -> None:
        for entry in source_of(tmp_path / "a.npz", features=PICTURES, labels=LABELS).entries(0, 1):
            if entry.position in (1, 3):
                np.testing.assert_array_equal(pixels_of(entry), PICTURES[entry.position])

    def test_zero_to_one_is_detected_and_stated(self, tmp_path: Path) -> None:
        source = source_of(tmp_path / "a.npz", features=(PICTURES / 255).astype(np.float32), labels=LABELS)
        for row, entry in enumerate(source.entries(0, 1)):
            np.testing.assert_array_equal(pixels_of(entry), PICTURES[row])
        assert source.statements == ["features range from 0 to 1: taken as 0 to 1 and multiplied by 255"]

    def test_fractions_of_levels_are_rounded_and_stated(self, tmp_path: Path) -> None:
        features = np.minimum(PICTURES + np.float32(0.4), 255)
        source = source_of(tmp_path / "a.npz", features=features, labels=LABELS)
        for row, entry in enumerate(source.entries(0, 1)):
            np.testing.assert_array_equal(pixels_of(entry), PICTURES[row])
        assert source.statements == ["features hold fractions of levels: rounded to whole ones"]

    def test_all_come_in_the_first_chunk(self, tmp_path: Path) -> None:
        source = source_of(tmp_path / "a.npz", features=PICTURES, labels=LABELS)
        assert list(source.entries(1, 2)) == []
        assert source.transferred == 0

    def test_compressed_archive_reads_too(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "a.npz", features=PICTURES, labels=LABELS)
        entries = source_of(tmp_path / "a.npz").entries(0, 1)
        np.testing.assert_array_equal(np.stack([pixels_of(entry) for entry in entries]), PICTURES)


BAD = {
    "no pictures": ({"features": PICTURES[:0]}, "no picture is labelled"),
    "flat rows": ({"features": PICTURES.reshape(4, -1)}, r"Received: uint8, shape \(4, 48\)"),
    "gray or channels first": ({"features": PICTURES.transpose(0, 3, 1, 2)}, r"transpose\(0, 2, 3, 1\)"),
    "object array": ({"features": np.array([PICTURES[0], None], dtype=object)}, "never unpickles"),
    "counts differ": ({"labels": LABELS[:3]}, "4 rows and `labels` 3"),
    "one-hot labels of other classes": ({"labels": np.eye(4)}, "`labels` does not fit.*have 2 columns"),
    "pictures last": ({"features": np.zeros((8, 8, 3, 4), np.uint8)}, r"moveaxis\(a\['features'\], -1, 0\)"),
    "many channels": ({"features": np.zeros((4, 8, 8, 13), np.uint8)}, r"a\['features'\]\[\.\.\., :3\]"),
    "two channels": ({"features": np.zeros((4, 8, 8, 2), np.uint8)}, r"a\['features'\]\[\.\.\., 0\]"),
    "series": ({"features": np.zeros((4, 2, 8, 8, 3), np.uint8)}, r"a\['features'\]\[:, 0\]"),
    "numbers from 1": ({"labels": np.array([1, 2, 1, 2])}, r"begin at 1: labels=a\['labels'\] - 1"),
    "-1 and 1": ({"labels": np.array([1, -1, 1, -1])}, r"labels=\(a\['labels'\] > 0\)"),
    "signed bytes": ({"features": np.full((4, 8, 8, 3), -9, np.int8)}, r"astype\('int16'\) \+ 128"),
    "several labels": ({"labels": np.ones((4, 2), int)}, r"several labels.*argmax\(axis=1\)"),
    "probabilities": ({"labels": np.full((4, 2), 0.5)}, "or probabilities, for a picture"),
    "12-bit levels": (
        {"features": PICTURES.astype("u2") * 16},
        r"if these are 12 bits: \(a\['features'\] >> 4",
    ),
    "scaled for a network": (
        {"features": PICTURES / 127.5 * 2 - 2},
        "ranges from -2 to 2; expected levels 0",
    ),
    "fractions that end at 3": (
        {"features": PICTURES / 85},
        "`features` ranges from 0 to 3; expected levels 0",
    ),
    "less a mean": ({"features": PICTURES / 255 - 0.5}, "ranges from -0.5 to 0.5; expected levels"),
    "names of other classes": (
        {"labels": np.array(["ant", "bee", "ant", "bee"])},
        r"holds \['ant', 'bee'\], but `classes`",
    ),
    "text for levels": ({"features": PICTURES.astype("U3")}, "expected numbers"),
    "too bright": ({"features": PICTURES * 2.0}, "ranges from 0 to 510"),
    "NaN": ({"features": PICTURES * np.nan}, "NaN or infinity"),
    "fractional labels": ({"labels": LABELS + 0.5}, "whole numbers"),
    "unknown class": ({"labels": LABELS + 1}, r"holds \[2\], but `classes` names"),
    "one class only": ({"labels": LABELS * 0}, "no picture is labelled capitol"),
}


def test_arrays_without_names_are_told_apart_by_their_shapes(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a.npz", arr_0=LABELS, arr_1=PICTURES)
    np.testing.assert_array_equal(np.stack([pixels_of(each) for each in source.entries(0, 1)]), PICTURES)


class TestRefusals:
    @pytest.mark.parametrize("case", BAD)
    def test_names_the_archive_and_the_fault(self, tmp_path: Path, case: str) -> None:
        arrays, match = BAD[case]
        labels = LABELS[: len(arrays.get("features", LABELS))]
        source = source_of(tmp_path / "bad.npz", **{"features": PICTURES, "labels": labels, **arrays})
        with pytest.raises((BadArchive, EmptyDataset), match=match) as caught:
            next(source.entries(0, 1))
        assert "bad.npz" in str(caught.value)

    def test_missing_array(self, tmp_path: Path) -> None:
        with pytest.raises(
            BadArchive, match=r"no array `features` with `labels`.*Received: features \(4, 4, 4, 3\)"
        ):
            next(source_of(tmp_path / "bad.npz", features=PICTURES).entries(0, 1))

    def test_missing_archive(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match=r"no archive .*none\.npz; correct `dataset\.source\.uri`"):
            next(source_of(tmp_path / "none.npz").entries(0, 1))

    def test_a_folder_is_told_from_an_archive(self, tmp_path: Path) -> None:
        with pytest.raises(
            SourceNotFound, match="is a folder; `type: npz` needs an .npz file or a folder of .npy files"
        ):
            next(source_of(tmp_path).entries(0, 1))


WIDE = np.stack([noise(seed, 8)[:5] for seed in range(4)])  # 5 x 8, so that no side looks like a channel
GRAY = np.repeat(WIDE[..., :1], 3, axis=-1)
NAMES = np.array(["opera", "capitol"])[LABELS]
OTHERS = {
    "x and y": ({"x": WIDE, "y": LABELS}, WIDE),
    "X and y": ({"X": WIDE, "y": LABELS}, WIDE),
    "images and labels": ({"images": WIDE, "labels": LABELS[:, None]}, WIDE),
    "data and target": ({"data": WIDE, "target": LABELS}, WIDE),
    "without names": ({"arr_0": WIDE, "arr_1": LABELS.astype(bool)}, WIDE),
    "names that only shapes explain": ({"birds": WIDE, "kinds": LABELS}, WIDE),
    "with other arrays": ({"features": WIDE, "labels": LABELS, "ids": np.arange(4)}, WIDE),
    "channels first": ({"features": WIDE.transpose(0, 3, 1, 2), "labels": LABELS}, WIDE),
    "gray": ({"features": WIDE[..., 0], "labels": LABELS}, GRAY),
    "gray, one channel": ({"features": WIDE[..., :1], "labels": LABELS}, GRAY),
    "gray, channels first": ({"features": WIDE[:, None, ..., 0], "labels": LABELS}, GRAY),
    "RGBA": (
        {"features": np.concatenate([WIDE, np.full_like(WIDE[..., :1], 255)], -1), "labels": LABELS},
        WIDE,
    ),
    "transparent": (
        {"features": np.concatenate([WIDE, WIDE[..., :1] * 0], -1), "labels": LABELS},
        WIDE * 0 + 255,
    ),
    "one-hot": ({"features": WIDE, "labels": np.eye(2)[LABELS]}, WIDE),
    "one-hot of truth values": ({"features": WIDE, "labels": np.eye(2, dtype=bool)[LABELS]}, WIDE),
    "names": ({"features": WIDE, "labels": NAMES}, WIDE),
    "names as bytes": ({"features": WIDE, "labels": NAMES.astype("S")}, WIDE),
    "numbers as text": ({"features": WIDE, "labels": LABELS.astype("U")}, WIDE),
    "64-bit integers": ({"features": WIDE.astype("i8"), "labels": LABELS}, WIDE),
    "16-bit integers": ({"features": WIDE.astype("u2"), "labels": LABELS}, WIDE),
    "-1 to 1": ({"features": (WIDE / 127.5 - 1).astype("f4"), "labels": LABELS}, WIDE),
    "0 to 1 with an overshoot of resizing": (
        {"features": np.where(WIDE == WIDE.max(), 1.004, WIDE / 255), "labels": LABELS},
        np.where(WIDE == WIDE.max(), np.uint8(255), WIDE),
    ),
    "0 to 1 with an overshoot to both sides": (
        {"features": np.where(WIDE == 255, 1.02, WIDE / 255) - (WIDE == 0) * 0.01, "labels": LABELS},
        WIDE,
    ),
    "-1 to 1 with an overshoot": (
        {"features": np.where(WIDE == WIDE.max(), 1.01, WIDE / 127.5 - 1), "labels": LABELS},
        np.where(WIDE == WIDE.max(), np.uint8(255), WIDE),
    ),
    "truth values": ({"features": WIDE > 100, "labels": LABELS}, (WIDE > 100) * np.uint8(255)),
    "bytes of 0 and 1": (
        {"features": (WIDE > 100).astype("u1"), "labels": LABELS},
        (WIDE > 100) * np.uint8(255),
    ),
}
TRAIN = {"x_train": WIDE, "y_train": LABELS}
LOST = {
    "two pairs without names": (
        {"arr_0": WIDE, "arr_1": LABELS, "arr_2": WIDE, "arr_3": LABELS},
        r"`arr_2` \(4, 5, 8, 3\) may hold pictures, but only `arr_0` with `arr_1` clearly",
    ),
    "a test part beside features and labels": (
        {"features": WIDE, "labels": LABELS, "x_test": WIDE, "y_test": LABELS},
        "`x_test` .* may hold pictures",
    ),
    "a test part without labels": ({**TRAIN, "x_test": WIDE}, "`x_test` .* may hold pictures"),
    "a test part of another size without labels": (
        {**TRAIN, "x_test": WIDE[:, :4]},
        "`x_test` .* may hold pictures",
    ),
    "two validation parts": (
        {**TRAIN, "x_dev": WIDE, "y_dev": LABELS, "x_val": WIDE, "y_val": LABELS},
        "`x_dev` and `x_val` are both `x` of the validation part",
    ),
    "names that differ by case": (
        {**TRAIN, "X_train": WIDE, "Y_train": LABELS},
        "`x_train` and `X_train` are both `x` of the train part",
    ),
}
PARTS = [
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "Y_train", "X_test", "Y_test"),
]


FULL = np.concatenate([WIDE[:1] * 0, WIDE[1:2] | 255, WIDE[2:]])  # black and white are there
UNIT, SIGNED = (FULL / 255).astype("f4"), (FULL / 127.5 - 1).astype("f4")
# Train and test set as they are saved, and what the pictures are.
MIXED = {
    "bytes, then 0 to 1": (FULL, UNIT, FULL),
    "0 to 1, then bytes": (UNIT, FULL, FULL),
    "0 to 1, then 0 to 255 as fractions": (UNIT, FULL.astype("f4"), FULL),
    "bytes, then -1 to 1": (FULL, SIGNED, FULL),
    "-1 to 1, then less of that range": (SIGNED, np.clip(SIGNED, -0.6, 0.6), np.clip(FULL, 51, 204)),
    "bytes, then truth values": (FULL, FULL > 127, (FULL > 127) * np.uint8(255)),
    "0 to 1, then black ones": (UNIT, UNIT * 0, FULL * 0),
}
CONTRADICTIONS = {
    "-1 to 1, then 0 to 1": (SIGNED, UNIT),
    "0 to 1, then -1 to 1": (UNIT, SIGNED),
    "bytes, then bytes of 0 and 1": (FULL, (FULL > 127).astype("u1")),
}


class TestScalesOfParts:
    @pytest.mark.parametrize("case", MIXED)
    def test_each_part_is_read_by_its_own_scale(self, tmp_path: Path, case: str) -> None:
        train, test, expected = MIXED[case]
        arrays = {"x_train": train, "y_train": LABELS, "x_test": test, "y_test": LABELS}
        pictures = [
            decode_picture(entry.read()) for entry in source_of(tmp_path / "a.npz", **arrays).entries(0, 1)
        ]
        np.testing.assert_array_equal(pictures[4:], expected)
        if expected is FULL:
            np.testing.assert_array_equal(pictures[:4], FULL)

    @pytest.mark.parametrize("case", CONTRADICTIONS)
    def test_scales_that_cannot_be_told_apart_are_refused_with_their_ranges(
        self, tmp_path: Path, case: str
    ) -> None:
        train, test = CONTRADICTIONS[case]
        arrays = {"x_train": train, "y_train": LABELS, "x_test": test, "y_test": LABELS}
        with pytest.raises(
            BadArchive, match=r"`x_train` ranges from -?\d+ to \d+, `x_test` ranges from -?\d+"
        ):
            next(source_of(tmp_path / "a.npz", **arrays).entries(0, 1))

    def test_the_second_part_is_checked_for_what_is_no_number(self, tmp_path: Path) -> None:
        arrays = {"x_train": FULL, "y_train": LABELS, "x_test": UNIT * np.nan, "y_test": LABELS}
        with pytest.raises(BadArchive, match="`x_test` holds NaN"):
            next(source_of(tmp_path / "a.npz", **arrays).entries(0, 1))

    def test_what_was_clipped_is_stated(self, tmp_path: Path) -> None:
        arrays, _ = OTHERS["0 to 1 with an overshoot of resizing"]
        source = source_of(tmp_path / "a.npz", **arrays)
        list(source.entries(0, 1))
        assert source.statements[-1].endswith("multiplied by 255; what lies beyond was clipped")

    def test_pictures_that_were_read_by_another_scale_are_read_again(self, tmp_path: Path) -> None:
        arrays = {"x_train": FULL, "y_train": LABELS, "x_test": UNIT, "y_test": LABELS}
        validators = {entry.validator for entry in source_of(tmp_path / "a.npz", **arrays).entries(0, 1)}
        assert len(validators) == 2


class TestOtherPeoplesArrays:
    @pytest.mark.parametrize("case", OTHERS)
    def test_are_read_as_they_are_meant(self, tmp_path: Path, case: str) -> None:
        arrays, expected = OTHERS[case]
        for row, entry in enumerate(source_of(tmp_path / "a.npz", **arrays).entries(0, 1)):
            assert entry.label == ("opera", "capitol")[LABELS[row]]
            assert entry.split is None
            np.testing.assert_array_equal(decode_picture(entry.read()), expected[row])

    @pytest.mark.parametrize("case", LOST)
    def test_pictures_that_would_be_left_out_are_refused_by_name(self, tmp_path: Path, case: str) -> None:
        arrays, match = LOST[case]
        with pytest.raises(BadArchive, match=match):
            next(source_of(tmp_path / "a.npz", **arrays).entries(0, 1))

    def test_other_arrays_that_are_not_used_are_stated(self, tmp_path: Path) -> None:
        masks = {"masks": WIDE[..., 0], "ids": np.arange(4)}
        source = source_of(tmp_path / "a.npz", features=WIDE, labels=LABELS, **masks)
        assert len(list(source.entries(0, 1))) == 4
        assert source.statements == ["arrays: not used: masks (4, 5, 8), ids (4,)"]

    @pytest.mark.parametrize("names", PARTS)
    def test_a_test_part_is_a_given_split(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        arrays = dict(zip(names, (WIDE[:2], LABELS[::2], WIDE[2:], LABELS[::2]), strict=True))
        source = source_of(tmp_path / "a.npz", **arrays)
        entries = list(source.entries(0, 1))
        assert [entry.split for entry in entries] == ["train", "train", "test", "test"]
        assert [entry.label for entry in entries] == ["opera", "capitol"] * 2
        assert len({entry.source_url for entry in entries}) == 4
        assert "their test set is kept" in source.statements[0]

    def test_parts_without_a_test_part_keep_their_names(self, tmp_path: Path) -> None:
        arrays = {"train_images": WIDE[:2], "train_labels": LABELS[::2]}
        arrays |= {"val_images": WIDE[2:], "val_labels": LABELS[::2]}
        entries = list(source_of(tmp_path / "a.npz", **arrays).entries(0, 1))
        assert [entry.split for entry in entries] == ["train"] * 2 + ["validation"] * 2

    def test_a_folder_of_single_arrays_is_one(self, tmp_path: Path) -> None:
        np.save(tmp_path / "images.npy", WIDE)
        np.save(tmp_path / "labels.npy", LABELS)
        source = source_of(tmp_path)
        for row, entry in enumerate(source.entries(0, 1)):
            np.testing.assert_array_equal(decode_picture(entry.read()), WIDE[row])
        assert source.statements == ["arrays: images with labels (4)"]
        with pytest.raises(SourceNotFound, match="is one array; name the folder"):
            next(source_of(tmp_path / "images.npy").entries(0, 1))

    def test_an_unchanged_archive_is_remembered_with_all_it_means(self, tmp_path: Path) -> None:
        arrays, _ = OTHERS["names"]
        first = source_of(tmp_path / "a.npz", **arrays)
        labels = [entry.label for entry in first.entries(0, 1)]
        notes = json.loads(json.dumps(first.notes))
        again = NpzSource(
            str(tmp_path / "a.npz"), classes=["opera", "capitol"], storage=Storage({}), previous=notes
        )
        assert [entry.label for entry in again.entries(0, 1)] == labels
        assert (again.transferred, again.statements) == (0, first.statements)
