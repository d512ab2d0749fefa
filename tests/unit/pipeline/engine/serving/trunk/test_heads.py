from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.model_files import HEAD, LABELS, NOVELTY, TFLITE_NETWORK
from pipeline.engine.serving.in_progress import InProgress, read_in_progress
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.trunk.head_file import SPEC, pack_members, unpack_members, write_head
from pipeline.engine.serving.trunk.heads import HeadShelf, map_head
from pipeline.engine.serving.trunk.signatures import picture_reader
from pipeline.engine.serving.trunk.trunks import trunk_name, write_trunk
from pipeline.errors import LostHead
from pipeline.npz import write_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.head import Head, LogisticHead
from pipeline.tflite.manifest import Parity, TFLiteManifest, digest_files, read_manifest
from pipeline.tflite.network import read_classifier_head
from pipeline.tflite.novelty import DIRECTIONS, STEPS, Novelty
from tests.fakes.pictures import encode

WIDTH, UNITS = 7, 5


def write_model(directory, seed: int, *, has_novelty: bool = True, hidden: bool = True) -> TFLiteManifest:
    rng = np.random.default_rng(seed)
    (directory / "graft").mkdir(parents=True)
    for name in ("saved_model.pb", TFLITE_NETWORK):
        (directory / name).write_bytes(b"not read")
    (directory / LABELS).write_text(json.dumps(["né", "b", "c"]))
    head = Head(
        hidden_kernel=rng.normal(size=(WIDTH, UNITS)).astype(np.float32),
        hidden_bias=rng.normal(size=UNITS).astype(np.float32),
        output_kernel=rng.normal(size=(UNITS, 3)).astype(np.float32),
        output_bias=rng.normal(size=3).astype(np.float32),
    )
    if not hidden:
        kernel = rng.normal(size=(WIDTH, 3)).astype(np.float32)
        head = LogisticHead(output_kernel=kernel, output_bias=head.output_bias)
    (directory / HEAD).write_bytes(write_npz(head.arrays()))
    if has_novelty:
        directions = rng.integers(0, 256, (DIRECTIONS, WIDTH)).astype(np.uint8)
        quantiles = np.sort(rng.random(STEPS + 1)).astype(np.float32)
        novelty = Novelty(directions=directions, quantiles=quantiles)
        (directory / NOVELTY).write_bytes(write_npz(novelty.arrays()))
    manifest = TFLiteManifest(
        files=digest_files(directory),
        spec=PixelSpec(height=8, width=8, offset=0, divisor=255),
        reject_below=0.4,
        reject_unlike=0.9,
        thresholds={"né": 0.9, "c": 0.1},
        parity=Parity(pictures=1, largest_difference=0),
        made_by={},
    )
    manifest.write(directory)
    return manifest


@pytest.mark.parametrize("hidden", [True, False], ids=["dense", "logistic"])
@pytest.mark.parametrize("has_novelty", [True, False])
def test_a_mapped_head_answers_as_the_model_directory_does(tmp_path, has_novelty, hidden):
    manifest = write_model(tmp_path / "model", 1, has_novelty=has_novelty, hidden=hidden)
    mapped = map_head(write_head(tmp_path / "model", manifest, tmp_path / "heads"))
    read = read_classifier_head(tmp_path / "model", manifest)
    pooled = np.random.default_rng(2).random((9, WIDTH)).astype(np.float32)
    outputs = read.predict(pooled)
    assert np.array_equal(mapped.predict(pooled), outputs)
    assert mapped.has_novelty == has_novelty
    novelty = read.score(pooled)
    assert np.array_equal(mapped.score(pooled), novelty)
    for row, value in zip(outputs, [None] * 9 if novelty is None else novelty, strict=True):
        for may_reject in (True, False):
            assert mapped.label(row, value, may_reject=may_reject) == read.label(
                row, value, may_reject=may_reject
            )


def test_each_class_has_its_own_threshold_in_place_of_the_common_one(tmp_path):
    mapped = map_head(write_head(tmp_path / "model", write_model(tmp_path / "model", 1), tmp_path / "heads"))
    rows = np.array([[0.85, 0.1, 0.05], [0.92, 0.05, 0.03], [0.3, 0.38, 0.32], [0.3, 0.3, 0.4]], np.float32)
    assert [mapped.label(row, may_reject=True)[0] for row in rows] == ["", "né", "", "c"]
    assert [mapped.label(row, may_reject=False)[0] for row in rows] == ["né", "né", "b", "c"]


@pytest.mark.parametrize("place", [0, 9, 300, -1])
def test_a_head_with_a_wrong_digest_is_refused(tmp_path, place):
    source = write_head(tmp_path / "model", write_model(tmp_path / "model", 1), tmp_path / "heads")
    path = tmp_path / "heads" / source.digest
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(LostHead, match=f"{source.digest} has the digest"):
        map_head(source)
    path.write_bytes(b"")
    with pytest.raises(LostHead, match="cannot be read"):
        map_head(source)
    path.unlink()
    shelf = HeadShelf(max_bytes=10**9)
    shelf.add([source])
    with pytest.raises(LostHead, match="cannot be read"):
        shelf.get(source.digest)


def test_the_heads_used_last_stay_in_memory_and_the_others_come_back(tmp_path):
    sources = []
    for seed in range(3):
        manifest = write_model(tmp_path / f"model-{seed}", seed)
        sources.append(write_head(tmp_path / f"model-{seed}", manifest, tmp_path / "heads"))
    size = map_head(sources[0]).num_bytes
    shelf = HeadShelf(max_bytes=2 * size)
    shelf.add(sources)
    assert shelf.num_loaded == 0
    first, second = (shelf.get(source.digest) for source in sources[:2])
    assert shelf.get(sources[0].digest) is first
    shelf.get(sources[2].digest)
    assert shelf.num_loaded == 2
    assert shelf.get(sources[0].digest) is first
    again = shelf.get(sources[1].digest)
    assert again is not second
    pooled = np.ones((1, WIDTH), np.float32)
    assert np.array_equal(again.answers.predict(pooled), second.answers.predict(pooled))
    shelf.remove(sources[0].digest)
    with pytest.raises(LostHead, match="has no head"):
        shelf.get(sources[0].digest)


def test_a_head_larger_than_the_limit_is_served_all_the_same(tmp_path):
    source = write_head(tmp_path / "model", write_model(tmp_path / "model", 1), tmp_path / "heads")
    shelf = HeadShelf(max_bytes=0)
    shelf.add([source])
    assert shelf.get(source.digest) is shelf.get(source.digest)


def test_members_come_back_aligned():
    members = {"a": b"x" * 65, "empty": b"", "é": b"y"}
    found = unpack_members(memoryview(pack_members(members)))
    assert {name: bytes(data) for name, data in found.items()} == members


def test_what_threads_began_last_is_read_back(tmp_path):
    path = tmp_path / "file"
    record = InProgress(path, num_threads=3, max_requests=4)
    assert read_in_progress(path) == frozenset()
    record.begin(0, [1, 2, 3, 4])
    record.begin(0, [5])
    record.begin(2, [6, 7])
    assert read_in_progress(path) == {5, 6, 7}
    assert read_in_progress(tmp_path / "none") is None
    path.write_bytes(b"\1")
    assert read_in_progress(path) is None


def test_models_of_other_bits_have_a_trunk_of_their_own_that_shifts_levels(tmp_path):
    manifest = write_model(tmp_path / "model", 1)
    deep = replace(manifest, spec=replace(manifest.spec, bits=12))
    assert trunk_name(deep) != trunk_name(manifest)
    deep.write(tmp_path / "model")
    directory = tmp_path / "trunk"
    write_trunk(tmp_path / "model", read_manifest(tmp_path / "model"), directory)
    spec = PixelSpec.from_dict(json.loads((directory / SPEC).read_text()))
    levels = np.random.default_rng(3).integers(0, 256, (8, 8)).astype(np.uint8)
    files = [encode(Image.fromarray(each), "PNG") for each in (levels, levels.astype(np.uint16) << 4)]
    plain, shifted = (picture_reader("keyed", spec, WorkerLimits())(file).decode() for file in files)
    assert np.array_equal(plain, shifted)
    assert np.array_equal(plain[..., 0], levels)
