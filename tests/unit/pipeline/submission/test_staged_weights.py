from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.imagenet_file import find_imagenet_file
from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.backbones.table import find_backbone
from pipeline.backbones.weights import read_weights
from pipeline.errors import BadArchive, WeightsMismatch, WeightsNotFound
from pipeline.npz import write_npz
from pipeline.storage import Storage
from pipeline.submission import staged_weights as module
from pipeline.submission.staged_weights import check_packaged, stage_weights
from tests.fakes.pictures import serving

LITE0, INCEPTION = find_backbone("efficientnet_lite0"), find_backbone("inception_v3")
WORKSPACE = "gs://graft"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path / "bucket"})


class TestStaging:
    def test_lite0_is_staged_from_the_installed_package_under_its_digest(self, storage: Storage) -> None:
        staged = stage_weights(Workspace(storage, WORKSPACE), LITE0, "imagenet")
        data = storage.read_bytes(staged.uri)
        assert staged.uri == f"gs://graft/weights/{hashlib.sha256(data).hexdigest()}"
        arrays = read_weights(data, LITE0.name)
        assert {name: array.shape for name, array in arrays.items()} == weight_shapes(LITE0.name)

    def test_the_second_staging_neither_finds_nor_converts(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        staged = stage_weights(Workspace(storage, WORKSPACE), LITE0, "imagenet")
        monkeypatch.setattr(module, "find_imagenet_file", None)
        monkeypatch.setattr(module, "_convert", None)
        assert stage_weights(Workspace(storage, WORKSPACE), LITE0, "imagenet") == staged

    def test_staged_weights_need_no_package(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        workspace = Workspace(storage, WORKSPACE)
        check_packaged(workspace, LITE0, "imagenet")
        with monkeypatch.context() as patch:
            patch.setattr("importlib.util.find_spec", lambda _: None)
            with pytest.raises(WeightsNotFound, match="which is not installed"):
                check_packaged(workspace, LITE0, "imagenet")
        stage_weights(workspace, LITE0, "imagenet")
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        check_packaged(workspace, LITE0, "imagenet")

    def test_weights_deleted_from_the_bucket_are_staged_again(self, storage: Storage) -> None:
        staged = stage_weights(Workspace(storage, WORKSPACE), LITE0, "imagenet")
        storage.delete(staged.uri)
        assert stage_weights(Workspace(storage, WORKSPACE), LITE0, "imagenet") == staged
        assert storage.exists(staged.uri)

    def test_an_npz_of_the_right_shapes_is_taken_from_a_bucket(self, storage: Storage) -> None:
        arrays = {name: np.ones(shape, np.float64) for name, shape in weight_shapes(LITE0.name).items()}
        storage.write_bytes("gs://graft/mine.npz", write_npz(arrays))
        staged = stage_weights(Workspace(storage, WORKSPACE), LITE0, "gs://graft/mine.npz")
        assert read_weights(storage.read_bytes(staged.uri), LITE0.name)["stem/beta"].dtype == np.float32


def test_a_file_is_downloaded_once_into_kerass_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "a.h5").write_bytes(b"weights")
    with serving(tmp_path) as server:
        digest = f"md5:{hashlib.md5(b'weights').hexdigest()}"
        row = dataclasses.replace(INCEPTION, weights_url=server.url("a.h5"), weights_digest=digest)
        paths = {find_imagenet_file(row), find_imagenet_file(row)}
        assert server.requests["GET"] == 1
    assert paths == {tmp_path / "keras" / "models" / INCEPTION.weights_file}
    assert paths.pop().read_bytes() == b"weights"


class TestWhatIsRefused:
    def test_a_missing_file_says_what_to_set(self, storage: Storage) -> None:
        with pytest.raises(WeightsNotFound, match=r"no weights file '/nowhere.h5' .* Set `model.weights`"):
            stage_weights(Workspace(storage, WORKSPACE), INCEPTION, "/nowhere.h5")

    def test_an_unreachable_host_says_how_to_give_a_path(
        self, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        closed = dataclasses.replace(INCEPTION, weights_url="http://127.0.0.1:9/inception.h5")
        with pytest.raises(WeightsNotFound, match=r"Get inception_v3_weights_tf.*notop.h5 .*`model.weights`"):
            stage_weights(Workspace(storage, WORKSPACE), closed, "imagenet")
        assert not list(tmp_path.rglob("*.part"))

    def test_an_error_page_is_not_taken_for_the_file(
        self, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        with serving(tmp_path) as server:
            moved = dataclasses.replace(INCEPTION, weights_url=server.url("moved.h5"))
            with pytest.raises(WeightsNotFound, match=r"moved.h5 failed: 404"):
                stage_weights(Workspace(storage, WORKSPACE), moved, "imagenet")
        assert not list(tmp_path.rglob("*inception*"))

    def test_a_file_with_another_digest_in_kerass_cache_is_named(
        self, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / INCEPTION.weights_file).write_bytes(b"something else")
        with pytest.raises(WeightsMismatch, match="its md5 is .*, expected bcbd6486424b2319ff4ef7d526e38f63"):
            stage_weights(Workspace(storage, WORKSPACE), INCEPTION, "imagenet")

    def test_an_array_of_another_shape_is_named(self, storage: Storage, tmp_path: Path) -> None:
        arrays = {name: np.ones(shape, np.float32) for name, shape in weight_shapes(LITE0.name).items()}
        arrays["head/kernel"] = np.ones((1, 1, 320, 7), np.float32)
        (tmp_path / "a.npz").write_bytes(write_npz(arrays))
        with pytest.raises(WeightsMismatch, match=r"`head/kernel` must have the shape \(1, 1, 320, 1280\)"):
            stage_weights(Workspace(storage, WORKSPACE), LITE0, str(tmp_path / "a.npz"))

    def test_an_unknown_pickle_is_not_read(self, storage: Storage, tmp_path: Path) -> None:
        (tmp_path / "a.pth").write_bytes(b"\x80\x02c__builtin__\neval\n")
        with pytest.raises(WeightsMismatch, match="pickles are not read"):
            stage_weights(Workspace(storage, WORKSPACE), LITE0, str(tmp_path / "a.pth"))

    def test_a_job_checks_the_names_in_what_was_staged(self) -> None:
        with pytest.raises(BadArchive, match="there is no array `stem/kernel`"):
            read_weights(write_npz({"other": np.ones(3, np.float32)}), LITE0.name)
