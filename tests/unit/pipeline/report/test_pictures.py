from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.explain.activation import overlay_activation
from pipeline.explain.features import read_features
from pipeline.explain.neighbours import nearest_pictures
from pipeline.npz import write_npz
from pipeline.storage import Storage


def test_the_map_colours_the_place_it_points_at() -> None:
    activation = np.full((7, 7), -1.0)
    activation[0, 0] = 3.0
    heated = np.asarray(overlay_activation(Image.new("RGB", (70, 70), (90, 90, 90)), activation))
    assert heated[0, 0, 0] > heated[0, 0, 2] + 50
    assert heated[60, 60].tolist() == [90, 90, 90]


def test_a_map_without_evidence_leaves_the_picture_gray() -> None:
    heated = np.asarray(overlay_activation(Image.new("RGB", (8, 8), (90, 90, 90)), -np.ones((7, 7))))
    assert (heated == 90).all()


def test_nearest_are_those_of_the_same_direction(tmp_path: Path) -> None:
    storage = Storage({"graft": tmp_path})
    features = np.array([[1, 0, 0], [0, 2, 0.1], [0, 1, 1]], np.float32)
    ids = np.array(["a", "b", "c"], "S64")
    storage.write_bytes("gs://graft/f.npz", write_npz({"ids": ids, "features": features}))
    cached = read_features(storage, ["gs://graft/gone.npz", "gs://graft/f.npz"], wanted={"a", "b", "c"})
    assert cached is not None
    found = nearest_pictures(cached, {"t": [0, 255, 12]}, 2)["t"]
    assert [id for id, _ in found] == ["b", "c"]
    assert found[0][1] > 0.999


def test_features_of_other_pictures_are_not_read(tmp_path: Path) -> None:
    storage = Storage({"graft": tmp_path})
    arrays = {"ids": np.array(["a", "b"], "S64"), "features": np.eye(2, dtype=np.float32)}
    storage.write_bytes("gs://graft/f.npz", write_npz(arrays))
    cached = read_features(storage, ["gs://graft/f.npz"], wanted={"b"})
    assert cached is not None
    assert cached.ids == ("b",)
    assert read_features(storage, ["gs://graft/f.npz"], wanted=set()) is None
