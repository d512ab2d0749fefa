"""Gray files of 12 bits: a job and the model that it makes shift their levels alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.backbones.table import find_backbone
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.trunk.signatures import picture_reader
from pipeline.engine.serving.trunk.trunks import trunk_name
from pipeline.tflite.manifest import check_tflite
from tests.fakes.pictures import encode
from tests.integration.trainer_pack import make_bucket, run_job, tiny_pictures

pytestmark = pytest.mark.soak


def test_a_model_of_12_bits_answers_files_of_12_bits_as_the_same_ones_of_8(tmp_path: Path) -> None:
    storage, arguments = make_bucket(tmp_path / "bucket", *tiny_pictures(), bits=12)
    options = ("--units", "16", "--epochs", "2")
    record = run_job(storage, arguments, *options)
    spec = replace(find_backbone("efficientnet_lite0").spec, bits=12)
    assert record.features
    assert all(spec.digest in uri for uri in record.features)
    model = tmp_path / "model"
    storage.download_tree("gs://graft/jobs/1/model", model)
    manifest = check_tflite(model)
    assert manifest.spec == spec
    assert json.loads((model / "graft" / "light.json").read_text())["spec"]["bits"] == 12
    levels = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    plain = encode(Image.fromarray(levels), "PNG")
    deep = encode(Image.fromarray(levels.astype(np.uint16) << 4 | 7), "PNG")
    answer = tf.saved_model.load(str(model)).signatures["serving_default"]
    one, other = answer(inputs=tf.constant([plain, deep]))["outputs"].numpy()
    assert (one == other).all()
    read = picture_reader("serving_default", manifest.spec, WorkerLimits())
    assert (read(plain).decode() == read(deep).decode()).all()
    usual = replace(manifest, spec=find_backbone("efficientnet_lite0").spec)
    assert trunk_name(manifest) != trunk_name(usual)
    assert not storage.exists(f"gs://graft/features/{record.parameters['weights']}/{usual.spec.digest}")
