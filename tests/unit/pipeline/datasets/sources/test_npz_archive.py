from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.sources.npz_archive import NpzSource
from pipeline.datasets.sources.source import SourceEntry
from pipeline.errors import BadArchive, EmptyDataset, SourceNotFound
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
    "gray": ({"features": PICTURES[..., 0]}, r"Received: uint8, shape \(4, 4, 4\)"),
    "channels first": ({"features": PICTURES.transpose(0, 3, 1, 2)}, r"shape \(any, any, any, 3\)"),
    "object array": ({"features": np.array([PICTURES[0], None], dtype=object)}, "never unpickles"),
    "counts differ": ({"labels": LABELS[:3]}, "4 rows and `labels` 3"),
    "one-hot labels": ({"labels": np.eye(4)}, "`labels` does not fit"),
    "64-bit integers": ({"features": PICTURES.astype("i8")}, "`features` does not fit"),
    "16-bit levels": ({"features": PICTURES.astype("u2")}, "save it as uint8"),
    "scaled for a network": ({"features": PICTURES / 127.5 - 1}, "ranges from -1 to 1; expected levels 0"),
    "too bright": ({"features": PICTURES * 2.0}, "ranges from 0 to 510"),
    "NaN": ({"features": PICTURES * np.nan}, "NaN or infinity"),
    "fractional labels": ({"labels": LABELS + 0.5}, "whole numbers"),
    "unknown class": ({"labels": LABELS + 1}, r"holds \[2\], but `classes` names"),
    "one class only": ({"labels": LABELS * 0}, "no picture is labelled capitol"),
}


class TestRefusals:
    @pytest.mark.parametrize("case", BAD)
    def test_names_the_archive_and_the_fault(self, tmp_path: Path, case: str) -> None:
        arrays, match = BAD[case]
        labels = LABELS[: len(arrays.get("features", LABELS))]
        source = source_of(tmp_path / "bad.npz", **{"features": PICTURES, "labels": labels, **arrays})
        with pytest.raises((BadArchive, EmptyDataset), match=match) as caught:
            next(source.entries(0, 1))
        assert "bad.npz" in str(caught.value)

    @pytest.mark.parametrize(
        "arrays",
        [
            {"x": PICTURES, "y": LABELS},
            {"images": PICTURES, "labels": LABELS[:, None]},
            {"arr_0": PICTURES.transpose(0, 3, 1, 2), "arr_1": LABELS.astype(bool)},
            {"features": PICTURES[..., 0], "labels": LABELS},
            {"features": PICTURES[..., :1], "labels": np.eye(2)[LABELS]},
            {"features": np.concatenate([PICTURES, PICTURES[..., :1]], axis=-1), "labels": LABELS},
            {"features": PICTURES.astype("i8"), "labels": np.array(["ant", "bee"])[LABELS]},
            {"x_train": PICTURES[:2], "y_train": LABELS[:2], "x_test": PICTURES[2:], "y_test": LABELS[2:]},
        ],
    )
    def test_the_line_that_mends_an_archive_does(
        self, tmp_path: Path, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(BadArchive, match="To mend it: import numpy") as caught:
            next(source_of(tmp_path / "bad.npz", **arrays).entries(0, 1))
        monkeypatch.chdir(tmp_path)
        names: dict[str, np.lib.npyio.NpzFile] = {}
        exec(str(caught.value).partition("To mend it: ")[2], names)
        names["a"].close()
        entries = list(source_of(tmp_path / "mended.npz").entries(0, 1))
        assert [entry.label for entry in entries] == [("opera", "capitol")[label] for label in LABELS]

    def test_missing_array(self, tmp_path: Path) -> None:
        with pytest.raises(BadArchive, match="no array `labels`"):
            next(source_of(tmp_path / "bad.npz", features=PICTURES).entries(0, 1))

    def test_missing_archive(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match=r"no archive .*none\.npz; correct `dataset\.source\.uri`"):
            next(source_of(tmp_path / "none.npz").entries(0, 1))

    def test_a_folder_is_told_from_an_archive(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match="is a folder; `type: npz` needs an .npz file"):
            next(source_of(tmp_path).entries(0, 1))
