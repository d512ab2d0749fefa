from __future__ import annotations

import shlex
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources.records import CONVERSION, refuse_records
from pipeline.errors import EmptyDataset
from tests.fakes.pictures import classifier_of, noise, storage_in
from tests.fakes.rows import index_rows, workspace_of

FILES = ("1.0.0/pets-train.tfrecord-00000-of-00002", "1.0.0/pets-test.tfrecord", "1.0.0/features.json")


@pytest.mark.parametrize("type", ["folder", "archive"])
def test_a_directory_of_tensorflow_datasets_is_refused_with_what_converts_it(
    tmp_path: Path, type: str
) -> None:
    source = tmp_path / "pets" if type == "folder" else tmp_path / "pets.zip"
    if type == "folder":
        for name in FILES:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(b"records")
    else:
        with zipfile.ZipFile(source, "w") as archive:
            for name in FILES:
                archive.writestr(name, b"records")
    config = classifier_of({"type": type, "uri": str(source), "classes": ["cat", "dog"]})
    with pytest.raises(EmptyDataset, match="has 2 TFRecord files, such as .*, which are not read") as error:
        fetch_pictures(workspace_of(storage_in(tmp_path)), config)
    assert CONVERSION in str(error.value)


def test_beside_pictures_they_are_left_alone() -> None:
    refuse_records([*FILES, "cat/1.JPG"], "pets")
    refuse_records(["cat/1", "tfrecord/2"], "pets")


def test_what_converts_it_writes_a_folder_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {
        split: [
            {"image": noise(number + 9 * (split == "test"))[..., :1], "label": number % 2}
            for number in range(6)
        ]
        for split in ("train", "test")
    }
    labels = SimpleNamespace(int2str=("cat", "dog").__getitem__)
    info = SimpleNamespace(splits=pictures, features={"label": labels})
    builder = SimpleNamespace(info=info, as_dataset=lambda split: pictures[split])
    module = SimpleNamespace(builder_from_directory=lambda path: builder, as_numpy=lambda dataset: dataset)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    python, option, code = shlex.split(CONVERSION)
    assert (python, option) == ("python", "-c")
    exec(compile(code, "line", "exec"), {})
    storage = storage_in(tmp_path)
    source = {"type": "folder", "uri": str(tmp_path / "FOLDER")}
    rows = index_rows(storage, fetch_pictures(workspace_of(storage), classifier_of(source)).index)
    assert sorted({(row.label, row.given_split) for row in rows}) == [
        ("cat", "test"), ("cat", "train"), ("dog", "test"), ("dog", "train"),
    ]  # fmt: skip
    assert len(rows) == 12
