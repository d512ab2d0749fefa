"""The manifest's rows, and the version's id that is made of named fields of them."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.artifacts.fingerprint import FINGERPRINT_KEYS, ImageFingerprint
from pipeline.artifacts.manifest import (
    COLUMNS,
    DIGEST_FIELDS,
    LATER_FIELDS,
    Manifest,
    ManifestRow,
    version_of,
)
from pipeline.errors import DamagedObject, ObjectNotFound, RecordInvalid
from tests.fakes.pictures import storage_in
from tests.fakes.rows import dataset_folder, manifest_of, manifest_row

# Rows as they were written before records had types: decoded, not decoded, and relabelled by a person.
OLD_ROWS = [
    {
        "id": "1" * 64, "blob": "a" * 64, "label": "ant", "position": 0, "source_url": "https://x.example/ä.png",
        "retrieved_at": "2026-01-01T00:00:00+00:00", "status": "kept", "page_url": "https://x.example/page",
        "creator": "A. Maker", "license": "CC BY 4.0", "license_url": "https://x.example/by",
        "attribution": "by A. Maker", "width": 30, "height": 20, "format": "PNG", "phash": "f" * 64,
        "colour": "80" * 12, "sketch": "QUJD", "group": "1" * 64, "split": "train", "reason": None,
        "decision": None,
    },
    {
        "id": None, "blob": "b" * 64, "label": "cat", "position": 1, "source_url": "gs://x/1.png",
        "retrieved_at": "2026-01-01T00:00:00+00:00", "status": "quarantined", "page_url": None,
        "creator": None,
        "license": None, "license_url": None, "attribution": None, "width": None, "height": None,
        "format": None, "phash": None, "colour": None, "sketch": None, "group": None, "split": None,
        "reason": "truncated",
        "decision": None,
    },
    {
        "id": "2" * 64, "blob": "c" * 64, "label": "cat", "position": 2, "source_url": "gs://x/2.png",
        "retrieved_at": "2026-01-01T00:00:00+00:00", "status": "kept", "page_url": None, "creator": None,
        "license": None, "license_url": None, "attribution": None, "width": 8, "height": 9, "format": "GIF",
        "phash": None, "colour": "00" * 12, "sketch": "REVG", "group": "2" * 64, "split": "test",
        "reason": None, "decision": "relabel from ant",
    },
]  # fmt: skip


class TestVersionId:
    def test_is_that_of_the_release_which_wrote_the_rows(self) -> None:
        rows = [ManifestRow.from_dict(row) for row in OLD_ROWS]
        assert version_of(rows, ["ant", "cat"]) == "d_5bcc2cdaceb7"

    def test_is_made_of_every_field_but_the_time_of_reading(self) -> None:
        assert {*DIGEST_FIELDS, *LATER_FIELDS} == set(COLUMNS) - {"retrieved_at"}

    @pytest.mark.parametrize("name", DIGEST_FIELDS)
    def test_changes_with_each_named_field(self, name: str) -> None:
        row = manifest_row(id="i", width=1)
        value = {"position": 7, "width": 2, "status": "quarantined"}.get(name, "other")
        other = ManifestRow.from_dict({**row.to_dict(), name: value})
        assert version_of([row], ["ant"]) != version_of([other], ["ant"])

    def test_a_field_that_a_later_release_adds_counts_only_where_a_row_has_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bare, stated = manifest_row(id="i"), manifest_row(id="i", decision="delete")
        before = version_of([bare], ["ant"])
        monkeypatch.setattr(
            "pipeline.artifacts.manifest.DIGEST_FIELDS", [n for n in COLUMNS if n != "decision"]
        )
        without = version_of([bare], ["ant"])
        monkeypatch.setattr("pipeline.artifacts.manifest.LATER_FIELDS", ("decision",))
        assert version_of([bare], ["ant"]) == without != before
        assert version_of([stated], ["ant"]) != without


class TestRows:
    def test_come_back_as_they_were_written(self, tmp_path: Path) -> None:
        manifest, rows = (
            manifest_of(storage_in(tmp_path), "d_1"),
            [ManifestRow.from_dict(r) for r in OLD_ROWS],
        )
        manifest.write(rows)
        assert list(manifest.rows()) == rows
        assert [row.to_dict() for row in rows] == OLD_ROWS

    def test_in_part_hold_the_columns_that_were_asked_for_and_no_others(self, tmp_path: Path) -> None:
        manifest = manifest_of(storage_in(tmp_path), "d_1")
        manifest.write(map(ManifestRow.from_dict, OLD_ROWS))
        rows = list(manifest.rows(columns=("id", "label", "split")))
        assert [(row.id, row.label, row.split) for row in rows] == [
            ("1" * 64, "ant", "train"),
            (None, "cat", None),
            ("2" * 64, "cat", "test"),
        ]
        assert rows[0].blob == rows[0].source_url == ""
        assert rows[0].fingerprint == ImageFingerprint(id="1" * 64)

    def test_of_an_unknown_column_or_field_are_refused(self, tmp_path: Path) -> None:
        manifest = manifest_of(storage_in(tmp_path), "d_1")
        with pytest.raises(ValueError, match="no column colur"):
            next(manifest.rows(columns=("colur",)))
        with pytest.raises(RecordInvalid, match=r"unknown fields: \['mask'\]"):
            manifest_row(mask="m")

    def test_of_a_version_that_is_not_there_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ObjectNotFound):
            next(manifest_of(storage_in(tmp_path), "d_0").rows())


def test_every_field_of_a_fingerprint_has_its_key() -> None:
    assert [each.name for each in fields(ImageFingerprint)] == list(FINGERPRINT_KEYS)


def test_a_manifest_that_is_not_the_one_that_was_written_is_named(tmp_path: Path) -> None:
    storage = storage_in(tmp_path)
    folder = dataset_folder(storage, "toys").version("d_1")
    manifest = Manifest(folder)
    manifest.write([ManifestRow.from_dict(OLD_ROWS[0])])
    intact = storage.read_bytes(folder.manifest)
    digest = hashlib.sha256(intact).hexdigest()
    storage.write_json(folder.croissant, {"distribution": [{"sha256": digest}]})
    assert [row.label for row in manifest.rows()] == ["ant"]
    storage.write_bytes(folder.manifest, intact.replace(b"ant", b"cat"))
    with pytest.raises(DamagedObject, match=f"{folder.manifest} is damaged: .*croissant.json"):
        list(manifest.rows())
    storage.write_bytes(folder.manifest, intact)
    assert [row.label for row in manifest.rows(["label"])] == ["ant"]
    for description in ({}, {"distribution": []}, {"distribution": [{}]}):
        storage.write_json(folder.croissant, description)
        storage.write_bytes(folder.manifest, intact)  # another file, which is not known to be checked
        assert [row.label for row in manifest.rows()] == ["ant"]
