from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.dataset import read_info
from pipeline.artifacts.manifest import ManifestRow, RowStatus
from pipeline.artifacts.pack import read_validation
from pipeline.artifacts.steps import CleanResult
from pipeline.config import Classifier
from pipeline.errors import ConfigError, EmptyDataset, SplitError
from pipeline.pixels.spec import PixelSpec
from pipeline.preprocess.clean import build_dataset_version
from pipeline.preprocess.pack import plan_pack
from pipeline.storage import Storage
from tests.fakes.pictures import (
    WORKSPACE,
    classifier_of,
    encode,
    fetch_and_clean,
    folder_classifier,
    folder_of,
    mirror,
    noise,
    png,
    storage_in,
)
from tests.fakes.rows import dataset_folder, manifest_rows, workspace_of
from tests.unit.pipeline.preprocess.dedup.test_near import tiles


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})


def clean(toys: Path, storage: Storage, **split: object) -> CleanResult:
    return fetch_and_clean(folder_classifier(toys, **split), storage)[1]


def rows_of(result: CleanResult, storage: Storage) -> list[ManifestRow]:
    return manifest_rows(storage, result.version)


def versions(storage: Storage) -> list[str]:
    return [uri for uri in storage.list_uris(f"{WORKSPACE}/datasets/toys/") if uri.endswith("/dataset.json")]


class TestFormats:
    def put(self, root: Path, label: str, files: dict[str, bytes]) -> None:
        (root / label).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (root / label / name).write_bytes(data)

    def test_bmp_and_tiff_are_taken_and_counted(self, tmp_path: Path, storage: Storage) -> None:
        for number, label in enumerate(("ant", "cat")):
            images = [Image.fromarray(noise(10 * number + n)) for n in range(4)]
            self.put(tmp_path / "toys", label, {f"{n}.bmp": encode(images[n], "BMP") for n in (0, 1)})
            pages = encode(images[2], "TIFF", save_all=True, append_images=images[:1])
            self.put(tmp_path / "toys", label, {"2.tif": pages, "3.tif": encode(images[3], "TIFF")})
        result = clean(tmp_path / "toys", storage)
        assert result.classes == {"ant": 4, "cat": 4}
        assert (
            "converted: 4 BMP, 2 TIFF, 2 TIFF (the first of several pages or frames), to PNG"
            in result.warnings
        )

    def test_formats_that_are_not_taken_are_named_with_a_remedy(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        for label in ("ant", "cat"):
            self.put(tmp_path / "toys", label, {"0.svg": b"<svg/>", "1.heic": b"\0\0\0\x24ftypheic\0\0\0\0"})
        with pytest.raises(EmptyDataset, match=r"2 SVG, 2 HEIC.*Taken: JPEG.*pip install pillow-heif"):
            clean(tmp_path / "toys", storage)

    @pytest.mark.parametrize(("format", "factor"), [("PNG", 16), ("TIFF", 16), ("PNG", 4)])
    def test_files_of_16_bits_that_use_the_lowest_only_are_called_dark(
        self, tmp_path: Path, storage: Storage, format: str, factor: int
    ) -> None:
        for number, label in enumerate(("ant", "cat")):
            levels = [noise(10 * number + n)[..., 0].astype(np.uint16) * factor for n in range(4)]
            files = {f"{n}": encode(Image.fromarray(each), format) for n, each in enumerate(levels)}
            self.put(tmp_path / "toys", label, files)
        for _ in range(2):  # the second run reads no file
            warnings = clean(tmp_path / "toys", storage).warnings
            [dark] = [warning for warning in warnings if warning.startswith("dark: ")]
            assert "8 of 8 files" in dark
            assert f"write `dataset.bits: { {16: 12, 4: 10}[factor] }`" in dark

    def test_files_that_use_all_16_bits_are_not_dark(self, tmp_path: Path, storage: Storage) -> None:
        for number, label in enumerate(("ant", "cat")):
            levels = [noise(10 * number + n)[..., 0].astype(np.uint16) * 257 for n in range(4)]
            self.put(
                tmp_path / "toys",
                label,
                {f"{n}": encode(Image.fromarray(each), "PNG") for n, each in enumerate(levels)},
            )
        assert not any("dark" in warning for warning in clean(tmp_path / "toys", storage).warnings)


class TestBitsOfGrayFiles:
    """A microscope's files: 12 of 16 bits."""

    def put(self, root: Path, factor: int) -> Path:
        for number, label in enumerate(("ant", "cat")):
            (root / label).mkdir(parents=True, exist_ok=True)
            for n in range(6):
                levels = noise(10 * number + n)[..., 0].astype(np.uint16) * factor
                (root / label / f"{n}.png").write_bytes(encode(Image.fromarray(levels), "PNG"))
        return root

    def clean(self, root: Path, storage: Storage, bits: int = 16) -> CleanResult:
        source = {"type": "folder", "uri": str(root)}
        return fetch_and_clean(
            Classifier.from_dict({"name": "toys", "dataset": {"source": source, "bits": bits}}), storage
        )[1]

    def test_are_the_pictures_that_all_bits_would_show(self, tmp_path: Path, storage: Storage) -> None:
        result = self.clean(self.put(tmp_path / "toys", 16), storage, bits=12)
        rows = manifest_rows(storage, result.version)
        other = storage_in(tmp_path / "other")
        shown = manifest_rows(other, self.clean(self.put(tmp_path / "full", 256), other).version)
        assert [(row.id, row.split) for row in rows] == [(row.id, row.split) for row in shown]
        assert [row.fingerprint for row in rows] == [row.fingerprint for row in shown]
        assert "bits: 12 files with 16 bits are read as 12 bits" in result.warnings
        assert not any("dark" in warning for warning in result.warnings)

    def test_are_part_of_the_version_and_of_the_pixels_that_it_is_packed_with(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        folder = folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})  # of 8 bits
        plain, deep = self.clean(folder, storage), self.clean(folder, storage, bits=12)
        assert plain.version != deep.version
        spec = PixelSpec(height=8, width=8, offset=0, divisor=1)
        indexes = [
            plan_pack(workspace_of(storage), "toys", each.version, spec).index for each in (plain, deep)
        ]
        assert [index.spec.get("bits") for index in indexes] == [None, 12]
        assert not {each.uri for each in indexes[0].shards} & {each.uri for each in indexes[1].shards}

    def test_that_change_leave_every_picture_on_its_side(self, tmp_path: Path, storage: Storage) -> None:
        folder = self.put(tmp_path / "toys", 16)
        sides = []
        for bits in (16, 12, 12, 16):
            result = self.clean(folder, storage, bits)
            rows = manifest_rows(storage, result.version)
            sides.append({row.source_url: row.split for row in rows})
            assert result.decoded == (0 if len(sides) == 3 else 12)
        assert sides == sides[:1] * 4
        assert set(sides[0].values()) == {"train", "test"}

    @pytest.mark.parametrize(
        ("factor", "note"),
        [(64, "12 of them have levels above 4095, which are white"), (2, "so fewer bits would do")],
    )
    def test_that_do_not_fit_the_files_are_told(
        self, tmp_path: Path, storage: Storage, factor: int, note: str
    ) -> None:
        result = self.clean(self.put(tmp_path / "toys", factor), storage, bits=12)
        assert any(warning.startswith("bits: 12 files") and note in warning for warning in result.warnings)


class TestGivenValidation:
    def split_folder(self, root: Path, *parts: str) -> Path:
        for place, part in enumerate(parts):
            folder_of(root / part, {"ant": 8, "cat": 8}, first=100 * place)
        return root

    def classifier(self, root: Path, **model: object) -> Classifier:
        dataset = {"source": {"type": "folder", "uri": str(root)}}
        return Classifier.from_dict({"name": "toys", "dataset": dataset, "model": model})

    @pytest.mark.parametrize("parts", [("train", "valid", "test"), ("train", "val")])
    def test_judges_and_does_not_train(
        self, tmp_path: Path, storage: Storage, parts: tuple[str, ...]
    ) -> None:
        root = self.split_folder(tmp_path / "toys", *parts)
        result = fetch_and_clean(self.classifier(root, validation="given"), storage)[1]
        rows = rows_of(result, storage)
        judges = [row for row in rows if row.role == "validation"]
        assert all(f"/{parts[1]}/" in row.source_url and row.split == "train" for row in judges)
        assert len(judges) == sum(f"/{parts[1]}/" in row.source_url and row.split == "train" for row in rows)
        spec = PixelSpec(height=8, width=8, offset=0.0, divisor=1.0)
        index = plan_pack(workspace_of(storage), "toys", result.version, spec).index
        assert read_validation(storage, index) == {row.id for row in judges}

    def test_is_not_part_of_a_version_that_does_not_want_it(self, tmp_path: Path, storage: Storage) -> None:
        root = self.split_folder(tmp_path / "toys", "train", "val")
        result = fetch_and_clean(self.classifier(root), storage)[1]
        assert {row.role for row in rows_of(result, storage)} == {None}
        assert read_info(dataset_folder(storage).version(result.version)).split.method == "hash"

    def test_needs_a_validation_part_and_something_to_train_on(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        root = self.split_folder(tmp_path / "toys", "train", "test")
        with pytest.raises(SplitError, match="no source brings a validation part.*validation_fraction"):
            fetch_and_clean(self.classifier(root, validation="given"), storage)
        folder_of(root / "val", {"bee": 8}, first=900)
        folder_of(root / "test", {"bee": 8}, first=800)
        with pytest.raises(SplitError, match="all training pictures of bee are in the validation part"):
            fetch_and_clean(self.classifier(root, validation="given"), storage)

    def test_a_window_that_leaves_only_judges_is_refused(
        self, tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = self.split_folder(tmp_path / "toys", "train", "test")
        fetch_and_clean(self.classifier(root), storage)
        folder_of(root / "val", {"ant": 8, "cat": 8}, first=900)
        monkeypatch.setattr("pipeline.datasets.fetch.utc_now", lambda: "2099-01-01T00:00:00+00:00")
        value = self.classifier(root, validation="given").to_dict()
        value["dataset"]["window"] = {"pictures": 16, "min_test": 16}
        with pytest.raises(SplitError, match="all training pictures of ant, cat are in the validation part"):
            fetch_and_clean(Classifier.from_dict(value), storage)

    def test_excludes_a_fraction(self, toys: Path) -> None:
        with pytest.raises(ConfigError, match="are alternatives; keep one of them"):
            self.classifier(toys, validation="given", validation_fraction=0.2)
        self.classifier(toys, validation="given", early_stopping={"patience": 3})


class TestSmallClasses:
    def classifier(self, root: Path, **dataset: object) -> Classifier:
        source = {"type": "folder", "uri": str(root), "classes": dataset.pop("classes", None)}
        return Classifier.from_dict({"name": "toys", "dataset": {"source": source, **dataset}})

    def test_are_left_out_by_name_and_counted(self, toys: Path, storage: Storage) -> None:
        folder_of(toys, {"bee": 1, "owl": 1}, first=5000)
        result = fetch_and_clean(self.classifier(toys), storage)[1]
        assert result.classes == {"ant": 12, "cat": 12}
        assert result.rejected == {"small_class": 2}
        [warning] = [each for each in result.warnings if each.startswith("small_class: left out")]
        assert "bee (1), owl (1)" in warning

    def test_are_an_error_if_the_user_wants_them(self, toys: Path, storage: Storage) -> None:
        folder_of(toys, {"bee": 1, "owl": 1}, first=5000)
        for wanted in ({"small_classes": "fail"}, {"classes": ["ant", "cat", "bee", "owl"]}):
            with pytest.raises(SplitError, match=r"class 'bee' has.*class 'owl' has.*small_classes: drop"):
                fetch_and_clean(self.classifier(toys, **wanted), storage)

    @pytest.mark.parametrize("target", ["rest", "ant"])
    def test_can_be_merged(self, toys: Path, storage: Storage, target: str) -> None:
        folder_of(toys, {"bee": 1, "owl": 1}, first=5000)
        result = fetch_and_clean(self.classifier(toys, small_classes={"merge_into": target}), storage)[1]
        expected = {"ant": 12, "cat": 12}
        assert result.classes == expected | {target: expected.get(target, 0) + 2}
        assert [row.decision for row in rows_of(result, storage) if row.decision] == [
            "relabel from bee",
            "relabel from owl",
        ]

    def test_a_class_that_grows_comes_back(self, toys: Path, storage: Storage) -> None:
        folder_of(toys, {"bee": 1}, first=5000)
        fetch_and_clean(self.classifier(toys), storage)
        folder_of(toys, {"bee": 3}, first=6000)
        assert fetch_and_clean(self.classifier(toys), storage)[1].classes["bee"] == 4

    def test_too_few_are_left(self, tmp_path: Path, storage: Storage) -> None:
        root = folder_of(tmp_path / "few", {"ant": 3})
        folder_of(root, {"bee": 1}, first=5000)
        with pytest.raises(SplitError, match="class 'bee' has 0 training and 1 test"):
            fetch_and_clean(self.classifier(root), storage)


class TestFirstVersion:
    def test_counts_add_up_and_every_row_is_complete(self, toys: Path, storage: Storage) -> None:
        result = clean(toys, storage)
        assert result.classes == {"ant": 12, "cat": 12}
        assert result.pictures == result.train_pictures + result.test_pictures == 24
        assert result.decoded == 24
        for row in rows_of(result, storage):
            assert row.is_kept
            assert row.fingerprint is not None
            assert (row.fingerprint.width, row.fingerprint.height, row.fingerprint.format) == (16, 16, "PNG")
            assert row.group
            assert row.split in ("train", "test")
            assert len(row.fingerprint.phash or "") == 64

    def test_id_is_of_the_pixels_blob_of_the_bytes(self, toys: Path, storage: Storage) -> None:
        buffer = io.BytesIO()
        Image.fromarray(noise(0)).save(buffer, "WEBP", lossless=True)
        (toys / "ant" / "zz.webp").write_bytes(buffer.getvalue())
        rows = [row for row in rows_of(clean(toys, storage), storage) if row.label == "ant"]
        original, again = rows[0], rows[-1]
        assert original.id == again.id
        assert (again.status, again.reason) == (RowStatus.DUPLICATE, "exact_duplicate")
        assert original.status is RowStatus.KEPT
        assert original.blob != again.blob

    def test_card_and_info_say_what_it_is(self, toys: Path, storage: Storage) -> None:
        result = clean(toys, storage)
        info = read_info(dataset_folder(storage).version(result.version))
        assert info.classes == ["ant", "cat"]
        assert info.run_id == "run 1"
        assert sum(info.test.values()) == result.test_pictures
        card = storage.read_bytes(f"{result.uri}/README.md").decode()
        assert result.version in card
        assert "| 1 | cat | 12 |" in card


class TestAlteredCopies:
    """Photographs of one wall, and the copies that augmentation made of them."""

    @pytest.fixture
    def walls(self, tmp_path: Path) -> Path:
        for number, image in enumerate(tiles().values()):
            folder = tmp_path / "walls" / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{number:02d}.png")
        return tmp_path / "walls"

    def add_copies(self, walls: Path) -> None:
        for path in sorted(walls.glob("*/*.png")):
            mirror(Image.open(path)).save(path.with_name(f"{path.stem}_flip.png"))

    def sides(self, rows: list[ManifestRow]) -> dict[str, str | None]:
        return {row.provenance.source_url.rpartition("/")[2]: row.split for row in rows}

    def test_mirrored_copies_are_on_their_originals_side(self, walls: Path, storage: Storage) -> None:
        self.add_copies(walls)
        sides = self.sides(rows_of(clean(walls, storage), storage))
        assert len(sides) == 128
        assert all(sides[name] == sides[name.replace("_flip", "")] for name in sides)

    def test_the_setting_switches_that_off(self, walls: Path, storage: Storage) -> None:
        self.add_copies(walls)
        value = {"name": "toys", "dataset": {"source": {"type": "folder", "uri": str(walls)}}}
        value["dataset"]["merge_mirrored"] = False
        _, result = fetch_and_clean(Classifier.from_dict(value), storage)
        assert len({row.group for row in rows_of(result, storage)}) == 128

    def test_training_copies_of_an_earlier_release_are_kept_out_for_good(
        self, walls: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.add_copies(walls)
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.preprocess.clean.find_copies", lambda *args, **options: [])
            patch.setattr("pipeline.preprocess.registry.SEARCH", 1)
            before = self.sides(rows_of(clean(walls, storage), storage))
        torn = {name for name in before if before[name] != before[name.replace("_flip", "")]}
        torn |= {name.replace("_flip", "") for name in torn}
        assert torn
        for _ in range(2):
            rows = rows_of(clean(walls, storage), storage)
            after = self.sides(rows)
            assert {name for name in after if after[name] is None} == {
                name for name in torn if before[name] == "train"
            }
            assert all(after[name] == before[name] for name in after if after[name] is not None)
            assert {row.reason for row in rows if row.split is None} == {"straddles_split"}


class TestSecondRun:
    def test_unchanged_input_decodes_nothing_and_writes_nothing(self, toys: Path, storage: Storage) -> None:
        first = clean(toys, storage)
        found = storage.list_uris(f"{WORKSPACE}/datasets/toys/")
        files = {uri: storage.local_path(uri).stat().st_mtime_ns for uri in found if "/fetched/" not in uri}
        second = clean(toys, storage)
        assert second == replace(first, decoded=0)
        assert list(second.classes) == ["ant", "cat"]
        assert files == {uri: storage.local_path(uri).stat().st_mtime_ns for uri in files}
        assert len(versions(storage)) == 1

    def test_classes_keep_the_order_of_the_yaml(self, toys: Path, storage: Storage) -> None:
        source = {"type": "folder", "uri": str(toys), "classes": ["cat", "ant"]}
        for _ in range(2):
            _, result = fetch_and_clean(classifier_of(source), storage)
            assert list(result.classes) == ["cat", "ant"]

    def test_the_time_of_reading_is_not_part_of_the_version(self, toys: Path, tmp_path: Path) -> None:
        one, other = (storage_in(tmp_path / name) for name in ("one", "other"))
        first = clean(toys, one)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.datasets.download.datetime", _Tomorrow)
            second = clean(toys, other)
        assert first.version == second.version
        assert rows_of(first, one)[0].retrieved_at != rows_of(second, other)[0].retrieved_at

    def test_ten_new_pictures_are_ten_decodes_and_move_nobody(self, toys: Path, storage: Storage) -> None:
        first = clean(toys, storage)
        before = {row.id: row.split for row in rows_of(first, storage)}
        folder_of(toys, {"ant": 5, "cat": 5}, first=12)
        second = clean(toys, storage)
        assert second.decoded == 10
        assert second.version != first.version
        after = {row.id: row.split for row in rows_of(second, storage)}
        assert {id: after[id] for id in before} == before

    def test_bad_pictures_are_not_tried_again(self, toys: Path, storage: Storage) -> None:
        (toys / "ant" / "bad.jpg").write_text("hello")
        assert clean(toys, storage).decoded == 25
        assert clean(toys, storage).decoded == 0

    def test_a_test_picture_that_leaves_and_returns_is_a_test_picture(
        self, toys: Path, storage: Storage
    ) -> None:
        before = {row.source_url: row for row in rows_of(clean(toys, storage), storage)}
        urls = {url: row.label for url, row in before.items() if row.split == "test"}
        stay = {label: url for url, label in urls.items()}.values()
        hidden = {Path(url.removeprefix("file://")) for url in urls if url not in stay}
        assert hidden
        kept_bytes = {path: path.read_bytes() for path in hidden}
        for path in hidden:
            path.unlink()
        clean(toys, storage, seed=99)
        for path, content in kept_bytes.items():
            path.write_bytes(content)
        after = {row.source_url: row.split for row in rows_of(clean(toys, storage, seed=99), storage)}
        assert {url for url, split in after.items() if split == "test"} == set(urls)

    def test_a_killed_clean_is_repeated(
        self, toys: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for dying in ("splits.jsonl", "manifest.jsonl", "README.md", "dataset.json", "latest.json"):
            fresh = storage_in(toys.parent / dying)
            write = fresh.write_bytes

            def die(uri: str, data: bytes, dying: str = dying, write: object = write) -> None:
                if uri.endswith(dying):
                    raise KeyboardInterrupt
                write(uri, data)  # type: ignore[operator]

            monkeypatch.setattr(fresh, "write_bytes", die)
            with pytest.raises(KeyboardInterrupt):
                clean(toys, fresh)
            monkeypatch.undo()
            assert clean(toys, fresh).version == clean(toys, storage).version
            assert len(versions(fresh)) == 1


class _Tomorrow:
    @staticmethod
    def now(zone: object) -> _Tomorrow:
        return _Tomorrow()

    def isoformat(self, timespec: str) -> str:
        return "2999-01-01T00:00:00+00:00"


class TestBadPictures:
    def test_are_quarantined_by_reason_and_counted(self, toys: Path, storage: Storage) -> None:
        whole = png(noise(500, 64))
        (toys / "ant" / "text.jpg").write_text("a text file named .jpg")
        (toys / "ant" / "empty.png").write_bytes(b"")
        (toys / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
        result = clean(toys, storage)
        assert result.rejected == {"empty_file": 1, "not_an_image": 1, "truncated": 1}
        assert result.pictures == 24
        bad = [row for row in rows_of(result, storage) if row.status is RowStatus.QUARANTINED]
        assert {(row.id, row.split, row.group) for row in bad} == {(None, None, None)}

    def test_a_class_of_nothing_else_is_an_error_that_says_why(self, toys: Path, storage: Storage) -> None:
        for path in (toys / "cat").iterdir():
            path.write_text("no picture")
        with pytest.raises(EmptyDataset, match="no usable picture of 'cat'.*12 not_an_image"):
            clean(toys, storage)
        assert versions(storage) == []

    def test_equal_pictures_under_two_labels_are_all_kept_out(self, toys: Path, storage: Storage) -> None:
        (toys / "cat" / "same.png").write_bytes((toys / "ant" / "0003.png").read_bytes())
        result = clean(toys, storage)
        assert result.rejected == {"conflicting_labels": 2}
        assert result.classes == {"ant": 11, "cat": 12}

    def test_a_new_picture_between_train_and_test_is_kept_out(self, tmp_path: Path, storage: Storage) -> None:
        bridge_of = {"ant": "train", "cat": "test"}
        toys = folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})
        rows = rows_of(clean(toys, storage), storage)
        ends = [next(r for r in rows if (r.label, r.split) == pair) for pair in bridge_of.items()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "pipeline.preprocess.dedup.grouping.NearIndex.find",
                lambda index, look: [end.id for end in ends],
            )
            folder_of(toys, {"ant": 1}, first=12)
            result = clean(toys, storage)
        assert result.rejected == {"straddles_split": 1}
        assert result.pictures == 24

    def test_one_picture_of_a_class_is_a_split_error_and_writes_nothing(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        with pytest.raises(SplitError, match="class 'cat' has 0 training and 1 test"):
            clean(folder_of(tmp_path / "few", {"ant": 12, "cat": 1}), storage)
        assert versions(storage) == []
        assert not storage.exists(f"{WORKSPACE}/datasets/toys/splits.jsonl")


class TestSplitMethods:
    def test_random_follows_source_order_and_may_move_pictures(self, toys: Path, storage: Storage) -> None:
        result = clean(toys, storage, method="random", seed=42, test_fraction=0.25)
        shuffled = np.random.RandomState(42).permutation(24)[:6]
        tested = [row.position for row in rows_of(result, storage) if row.split == "test"]
        assert tested == sorted(shuffled)
        other = clean(toys, storage, method="random", seed=1, test_fraction=0.25)
        assert other.version != result.version
        assert other.decoded == 0

    def test_random_leaves_the_hash_split_as_it_was(self, toys: Path, storage: Storage) -> None:
        first = clean(toys, storage)
        clean(toys, storage, method="random", seed=5)
        assert clean(toys, storage).version == first.version

    def test_random_warns_of_groups_it_tears_apart(self, storage: Storage) -> None:
        _, result = fetch_and_clean(classifier_of({"type": "sample"}, method="random"), storage)
        assert len(result.warnings) == 1
        assert "groups of near duplicates straddle the split" in result.warnings[0]

    def test_blocks_of_the_sample_stay_together_under_hash(self, storage: Storage) -> None:
        _, result = fetch_and_clean(classifier_of({"type": "sample"}), storage)
        sides: dict[str, set[str]] = {}
        for row in rows_of(result, storage):
            place = dict(part.split("=") for part in row.source_url.partition("#")[2].split("&"))
            block = f"{row.label}/{int(place['row']) // 2}/{int(place['column']) // 2}"
            sides.setdefault(block, set()).add(str(row.split))
        assert len(sides) == 48
        assert {len(found) for found in sides.values()} == {1}
        assert result.warnings == []
        assert result.test_pictures >= 40


def test_chunks_of_a_fetch_make_one_version(toys: Path, storage: Storage) -> None:
    from pipeline.datasets.fetch import fetch_pictures

    classifier = folder_classifier(toys)
    whole = clean(toys, storage)
    parts = [
        fetch_pictures(workspace_of(storage), classifier, chunk=chunk, num_chunks=3).index
        for chunk in range(3)
    ]
    joined = build_dataset_version(workspace_of(storage), classifier, fetched=parts[::-1], run_id="run 2")
    assert joined.version == whole.version


class TestLedgersOfAnEarlierRelease:
    def strip(self, uri: str, storage: Storage) -> None:
        """Take out what an earlier release did not know."""
        rows = [json.loads(line) for line in storage.read_bytes(uri).splitlines()]
        for row in rows:
            del row["sketch"]
        storage.write_bytes(uri, b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def describe(self, folder: str, storage: Storage) -> None:
        """Describe the manifest as that release did."""
        description = storage.read_json(f"{folder}/croissant.json")
        manifest = storage.read_bytes(f"{folder}/manifest.jsonl")
        description["distribution"][0]["sha256"] = hashlib.sha256(manifest).hexdigest()
        storage.write_json(f"{folder}/croissant.json", description)

    def test_facts_are_found_again_and_nobody_moves(self, toys: Path, storage: Storage) -> None:
        first = clean(toys, storage)
        ledger = f"{WORKSPACE}/datasets/toys/splits.jsonl"
        before = storage.read_bytes(ledger)
        for uri in (ledger, f"{first.uri}/manifest.jsonl"):
            self.strip(uri, storage)
        self.describe(first.uri, storage)
        (toys / "ant" / "0000.png").unlink()
        second = clean(toys, storage)
        assert second.decoded == 23
        assert storage.read_bytes(ledger) == before
        splits = {row.id: row.split for row in rows_of(first, storage)}
        assert all(splits[row.id] == row.split for row in rows_of(second, storage))


class TestGivenSplit:
    """A source that is split already: its test set stays the test set, whatever a hash would say."""

    @pytest.fixture
    def given(self, tmp_path: Path) -> Path:
        folder_of(tmp_path / "toys" / "train", {"ant": 12, "cat": 12})
        return folder_of(tmp_path / "toys" / "test", {"ant": 4, "cat": 4}, first=100).parent

    def sides(self, result: CleanResult, storage: Storage) -> dict[str, str | None]:
        rows = rows_of(result, storage)
        return {row.source_url.partition("/toys/")[2]: row.split or row.reason for row in rows}

    def test_is_kept_and_told(self, given: Path, storage: Storage) -> None:
        result = clean(given, storage)
        assert (result.classes, result.test_pictures) == ({"ant": 16, "cat": 16}, 8)
        for name, side in self.sides(result, storage).items():
            assert name.startswith(f"{side}/")
        assert read_info(dataset_folder(storage).version(result.version)).split.method == "given"
        assert result.warnings[0] == (
            "given_split: test (8), train (24) are parts of a split, not classes; 8 pictures are the test set"
        )

    def test_grows_by_what_its_source_says(self, given: Path, storage: Storage) -> None:
        before = self.sides(clean(given, storage), storage)
        folder_of(given / "train", {"ant": 3}, first=200)
        folder_of(given / "test", {"cat": 2}, first=300)
        after = self.sides(clean(given, storage), storage)
        assert len(after) == len(before) + 5
        for name, side in after.items():
            assert name.startswith(f"{side}/")

    def test_training_copies_of_a_test_picture_straddle_it(self, given: Path, storage: Storage) -> None:
        original = Image.open(given / "test" / "ant" / "0100.png").resize((64, 64), Image.Resampling.NEAREST)
        original.save(given / "test" / "ant" / "large.png")
        original.save(given / "train" / "ant" / "exact.png")
        original.save(given / "train" / "ant" / "near.jpg", quality=95)
        sides = self.sides(clean(given, storage), storage)
        assert sides["test/ant/large.png"] == "test"
        assert sides["train/ant/exact.png"] == sides["train/ant/near.jpg"] == "straddles_split"

    def test_moves_no_picture_that_an_earlier_version_placed(
        self, given: Path, storage: Storage, tmp_path: Path
    ) -> None:
        pooled = tmp_path / "pooled"
        for label in ("ant", "cat"):
            (pooled / label).mkdir(parents=True)
            for path in sorted(given.glob(f"*/{label}/*")):
                (pooled / label / path.name).write_bytes(path.read_bytes())
        old = {row.id: row.split for row in rows_of(clean(pooled, storage), storage)}
        result = clean(given, storage)
        assert {row.id: row.split for row in rows_of(result, storage)} == old
        [warning] = [text for text in result.warnings if "stay on the side" in text]
        assert re.match(r"given_split: \d+ pictures stay on the side that an earlier version", warning)

    def test_without_a_test_set_is_refused_where_it_was_asked_for(self, toys: Path, storage: Storage) -> None:
        with pytest.raises(SplitError, match="no source brings a test set"):
            clean(toys, storage, method="given")

    def test_is_not_kept_by_a_random_split_which_says_so(self, given: Path, storage: Storage) -> None:
        result = clean(given, storage, method="random")
        assert any("the test set that a source brings is not kept" in text for text in result.warnings)
        assert read_info(dataset_folder(storage).version(result.version)).split.method == "random"

    def test_leaves_pictures_of_other_sources_to_the_hash(
        self, given: Path, storage: Storage, tmp_path: Path
    ) -> None:
        other = folder_of(tmp_path / "other", {"ant": 20, "cat": 20}, first=500)
        sources = [{"type": "folder", "uri": str(given)}, {"type": "folder", "uri": str(other)}]
        classifier = Classifier.from_dict({"name": "toys", "dataset": {"sources": sources}})
        rows = rows_of(fetch_and_clean(classifier, storage)[1], storage)
        assert sum(row.split == "test" and "/toys/test/" in row.source_url for row in rows) == 8
        assert {row.split for row in rows if "/other/" in row.source_url} == {"train", "test"}
