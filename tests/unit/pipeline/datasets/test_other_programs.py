"""Sources as other programs leave them: read, or refused with what to do."""

from __future__ import annotations

import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.dataset import read_info
from pipeline.config import Classifier
from pipeline.errors import DatasetError
from pipeline.storage import Storage
from tests.fakes.pictures import classifier_of, encode, fetch_and_clean, noise, png, storage_in
from tests.fakes.rows import dataset_folder

Files = dict[str, bytes]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


def write(root: Path, files: Files) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def class_folders(make: Callable[[int], bytes], suffix: str) -> Files:
    return {
        f"{label}/{n}.{suffix}": make(10 * n + len(label)) for label in ("cat", "horse") for n in range(3)
    }


def clean(
    storage: Storage, uri: Path, type: str = "folder", **dataset: object
) -> tuple[dict[str, int], list[str]]:
    value = classifier_of({"type": type, "uri": str(uri)}).to_dict()
    value["dataset"] |= dataset
    result = fetch_and_clean(Classifier.from_dict(value), storage)[1]
    return dict(result.classes), list(read_info(dataset_folder(storage).version(result.version)).warnings)


class TestPathsOfAnotherComputer:
    @pytest.mark.parametrize(
        ("listed", "file"),
        [
            (r"C:\Users\me\pics\{}.jpg", "pics/{}.jpg"),
            ("s3://bucket/pics/{}.jpg", "{}.jpg"),
            ("AmlDatastore://data/{}.jpg", "data/{}.jpg"),
            ("IMG_{}.JPG", "img_{}.jpg"),
            ("{}", "train/{}.png"),
            ("/data/upload/3/1a2b3c4d-p{}.jpg", "p{}.jpg"),
            (unicodedata.normalize("NFC", "é{}.jpg"), unicodedata.normalize("NFD", "é{}.jpg")),
        ],
    )
    def test_are_found_below_the_list(self, tmp_path: Path, storage: Storage, listed: str, file: str) -> None:
        rows = [f"{listed.format(n)},{('cat', 'dog')[n % 2]}" for n in range(6)]
        root = write(tmp_path / "x", {file.format(n): png(noise(n)) for n in range(6)})
        write(root, {"list.csv": "\n".join(["file,label", *rows]).encode()})
        classes, warnings = clean(storage, root / "list.csv", "url_list")
        assert classes == {"cat": 3, "dog": 3}
        assert any("6 rows name files that are not there; they were matched" in each for each in warnings)

    def test_that_fit_no_file_or_two_are_told(self, tmp_path: Path, storage: Storage) -> None:
        root = write(tmp_path / "x", {f"{part}/{n}.png": png(noise(n)) for part in "ab" for n in range(4)})
        rows = "".join(f"s3://c/{n}.png,{('cat', 'dog')[n % 2]}\n" for n in range(4))
        write(root, {"list.csv": f"file,label\n{rows}".encode()})
        with pytest.raises(DatasetError, match=r"Kept out: 4 bad_url, such as s3://c/0\.png"):
            clean(storage, root / "list.csv", "url_list")


class TestFormats:
    def test_pnm_and_jpeg_2000_are_converted(self, tmp_path: Path, storage: Storage) -> None:
        ppm = class_folders(lambda n: encode(Image.fromarray(noise(n)), "PPM"), "ppm")
        jp2 = class_folders(lambda n: encode(Image.fromarray(noise(n + 500)), "JPEG2000"), "jp2")
        levels = {
            f"cat/d{n}.pgm": b"P5\n8 8\n4095\n"
            + np.random.default_rng(n).integers(0, 4096, (8, 8)).astype(">u2").tobytes()
            for n in range(2)
        }
        classes, warnings = clean(storage, write(tmp_path / "x", {**ppm, **jp2, **levels}))
        assert classes == {"cat": 8, "horse": 6}
        assert "converted: 6 JPEG 2000, 8 PNM, to PNG" in warnings

    @pytest.mark.parametrize(
        ("data", "suffix", "problem"),
        [
            (b"\0" * 128 + b"DICM", "dcm", "Found: 6 DICOM.*`dcmj2pnm"),
            (b"version https://git-lfs.github.com/spec/v1\n", "jpg", "6 Git LFS pointer.*`git lfs pull`"),
            (b"\0\0\0\x14ftypqt  ", "mov", "6 video.*`ffmpeg"),
            (b"\0\0\0\x18ftypcrx ", "CR3", "6 raw.*`darktable-cli"),
            (b"%PDF-1.4", "pdf", "6 PDF.*`pdftoppm"),
            (b"\0\0\2" + b"\0" * 30, "tga", r"6 \.tga files.*mogrify"),
            (
                encode(Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32)), "TIFF"),
                "tif",
                "TIFF with fractions, negative or raw levels.*mogrify -normalize",
            ),
        ],
    )
    def test_that_are_not_taken_are_named_with_what_converts_them(
        self, tmp_path: Path, storage: Storage, data: bytes, suffix: str, problem: str
    ) -> None:
        files = class_folders(lambda n: data + (b"" if suffix == "tif" else b"%d" % n), suffix)
        with pytest.raises(DatasetError, match=problem):
            clean(storage, write(tmp_path / "x", files))

    def test_among_others_are_a_warning(self, tmp_path: Path, storage: Storage) -> None:
        files = class_folders(lambda n: png(noise(n)), "png")
        files |= {"cat/7.heic": b"\0\0\0\x18ftypheic" + bytes(40), "cat/7.json": b"{}"}
        _, warnings = clean(storage, write(tmp_path / "x", files))
        [told] = [each for each in warnings if each.startswith("formats")]
        assert told.startswith("formats: Found: 1 HEIC. Taken: JPEG")
        assert "`pip install pillow-heif`" in told

    def test_colours_of_16_bits_beside_bits_are_named(self, tmp_path: Path, storage: Storage) -> None:
        files = class_folders(deep_colours, "png")
        with pytest.raises(
            DatasetError, match="6 PNG with colours of 16 bits.*`mogrify -evaluate multiply 16"
        ):
            clean(storage, write(tmp_path / "x", files), bits=12)


def deep_colours(seed: int) -> bytes:
    levels = np.random.default_rng(seed).integers(0, 4096, (8, 8, 3)).astype(">u2")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in levels))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["data/train-0.parquet", "README.md"], "Parquet or Arrow files, such as .*load_dataset"),
        (["train/data-0.arrow", "train/state.json"], "Parquet or Arrow files"),
        (["toys-train.array_record-00000-of-00001", "features.json"], "ArrayRecord files"),
        (["images.npy", "labels.npy"], "NumPy arrays.*`type: npz`"),
        (["train_lmdb/data.mdb", "train_lmdb/lock.mdb"], "an LMDB database"),
        (["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"], "IDX files.*numpy.savez"),
        (["cifar/data_batch_1", "cifar/test_batch", "cifar/batches.meta"], "pickled batches"),
        (["train_32x32.mat"], "files of other programs.*numpy.savez"),
        (["cat.zip", "dog.zip"], "archives.*`type: archive`"),
        (["images/1.jpg", "labels/1.txt"], "boxes of YOLO.*COCO or Pascal VOC"),
        (["a/1.jpg", "a/1.cls", "a/2.jpg", "a/2.cls"], "WebDataset"),
    ],
)
def test_what_holds_pictures_without_being_any_is_named(
    tmp_path: Path, storage: Storage, names: list[str], problem: str
) -> None:
    with pytest.raises(DatasetError, match=problem):
        clean(storage, write(tmp_path / "x", dict.fromkeys(names, b"x")))


def test_masks_among_the_pictures_are_told(tmp_path: Path, storage: Storage) -> None:
    files = class_folders(lambda n: png(noise(n)), "png")
    files |= {f"cat/{n}_mask.png": png(noise(900 + n)) for n in range(2)}
    _, warnings = clean(storage, write(tmp_path / "x", files))
    assert any(
        each.startswith("mask_names: 2 of 8 files are named like masks of others") for each in warnings
    )


def test_whole_numbers_and_the_same_as_fractions_are_similar_labels(tmp_path: Path, storage: Storage) -> None:
    files = {f"{n}.png": png(noise(n)) for n in range(8)}
    rows = "".join(f"{n}.png,{('0', '0.0', '10', '1.0')[n % 4]}\n" for n in range(8))
    _, warnings = clean(
        storage, write(tmp_path / "x", {**files, "labels.csv": f"file,label\n{rows}".encode()})
    )
    assert [each for each in warnings if each.startswith("similar")] == [
        "similar_labels: 0 (2) and 0.0 (2) differ by case, spaces, accents or plural only; if they are one "
        "class, give them one name"
    ]
