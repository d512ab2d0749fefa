"""One small job, run for real: what it leaves behind and what the exported model answers."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.model_files import NOVELTY, TFLITE_NETWORK
from pipeline.artifacts.training import FeatureWork, TrainingRecord, ValidationSplit, WarmStart
from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.backbones.networks.folded import build_mapped_network, build_network, fold_batch_norm
from pipeline.backbones.table import find_backbone
from pipeline.backbones.weights import read_weights
from pipeline.errors import SignatureMismatch, TFLiteUnavailable
from pipeline.npz import read_npz, write_npz
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.storage import Storage
from pipeline.tflite.head import Head
from pipeline.tflite.manifest import read_manifest
from pipeline.tflite.network import TFLiteModel
from pipeline.tflite.novelty import NoveltyScorer, read_novelty
from pipeline.trainer.export import check_export
from pipeline.trainer.placeholder_constants import PlaceholderConstants
from pipeline.trainer.tflite_export import add_tflite_export, convert_network
from pipeline.trainer.trunk import comparison_pixels
from tests.fakes.pictures import png
from tests.integration.kinds_of_pictures import pictures
from tests.integration.trainer_pack import CLASSES, make_bucket, run_job, tiny_pictures

SPEC = find_backbone("efficientnet_lite0").spec


class Job(NamedTuple):
    storage: Storage
    arguments: list[str]
    training: TrainingRecord
    model: Path


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("bucket")
    storage, arguments = make_bucket(root, *tiny_pictures())
    training = run_job(storage, arguments, "--units", "32", "--epochs", "8", "--seed", "5")
    return Job(storage, arguments, training, root / "jobs" / "1" / "model")


@pytest.fixture(scope="module")
def signatures(job: Job) -> Any:
    return tf.saved_model.load(str(job.model)).signatures


def trainers_outputs(job: Job, pictures: list[bytes]) -> Any:
    """Answer from host pixels, the folded network and the stored head, without the SavedModel."""
    weights = read_weights(job.storage.local_path(job.arguments[3]), "efficientnet_lite0")
    pixels = np.stack([resize_picture(decode_picture(picture), SPEC) for picture in pictures])
    head = Head(**read_npz(job.model / "graft" / "head.weights.npz"))
    return head.predict(build_network("efficientnet_lite0", weights)(pixels).numpy())


class TestWhatAJobLeavesBehind:
    def test_training_json_tells_work_history_package_and_parameters(self, job: Job) -> None:
        assert TrainingRecord.read(JobDirectory(job.storage, "gs://graft/jobs/1")) == job.training
        assert job.training.work == FeatureWork(forwarded=16, cached=0)
        assert len(job.training.history["loss"]) == 8
        assert job.training.history["accuracy"][-1] == 1.0
        assert job.training.classes == tuple(CLASSES)
        assert job.training.parameters["units"] == 32
        assert job.training.package.file.endswith("pipeline/__init__.py")
        assert job.training.calibration is None  # of 16 pictures too few can be held out

    def test_the_model_directory_has_labels_and_head_beside_the_saved_model(self, job: Job) -> None:
        assert json.loads((job.model / "graft" / "labels.json").read_text()) == CLASSES
        head = read_npz(job.model / "graft" / "head.weights.npz")
        assert {name: array.shape for name, array in head.items()} == {
            "hidden_kernel": (1280, 32),
            "hidden_bias": (32,),
            "output_kernel": (32, 2),
            "output_bias": (2,),
        }
        assert (job.model / "saved_model.pb").is_file()

    def test_it_is_frozen(self, job: Job) -> None:
        graph = (job.model / "saved_model.pb").read_bytes()
        assert b"Conv2D" in graph
        assert b"VarHandleOp" not in graph

    def test_its_constants_are_in_the_file_once(self, job: Job) -> None:
        graph = (job.model / "saved_model.pb").read_bytes()
        head = read_npz(job.model / "graft" / "head.weights.npz")
        weights = read_weights(job.storage.local_path(job.arguments[3]), "efficientnet_lite0")
        kernel, bias = fold_batch_norm(weights, "stem")
        assert [graph.count(array.tobytes()) for array in (kernel, bias)] == [1, 1]
        assert graph.count(head["hidden_kernel"].tobytes()) == 2  # the activation map has its own
        assert graph.count(read_npz(job.model / NOVELTY)["directions"].tobytes()) == 1

    def test_training_again_forwards_nothing_and_gives_the_same_head(self, job: Job) -> None:
        arguments = [*job.arguments[:-1], "gs://graft/jobs/2"]
        again = run_job(job.storage, arguments, "--units", "32", "--epochs", "8", "--seed", "5")
        assert again.work == FeatureWork(forwarded=0, cached=16)
        assert again.history == job.training.history
        heads = [job.storage.read_bytes(f"gs://graft/jobs/{n}/model/graft/head.weights.npz") for n in (1, 2)]
        assert heads[0] == heads[1]


@pytest.fixture(scope="module")
def training(job: Job) -> TrainingRecord:
    options = "--units 32 --epochs 30 --patience 2 --validation-fraction 0.25 --views 1"
    options += " --class-weights balanced --reject-below 1.1 --warm-start gs://graft/jobs/1/model"
    arguments = [*job.arguments[:-1], "gs://graft/jobs/3"]
    return run_job(job.storage, arguments, *options.split())


class TestOptions:
    def test_altered_copies_are_forwarded_once_and_counted(self, training: TrainingRecord) -> None:
        assert training.work == FeatureWork(forwarded=16, cached=16)
        assert training.validation == ValidationSplit(training=24, validation=4, final_training=32)

    def test_the_best_epoch_is_kept_and_training_stops_after_it(self, training: TrainingRecord) -> None:
        losses = training.history["val_loss"]
        assert training.best_epoch == 1 + losses.index(min(losses))
        assert training.epochs_run == len(losses)

    def test_the_head_begins_from_the_earlier_one(self, training: TrainingRecord, job: Job) -> None:
        assert training.warm_start == WarmStart(model_uri="gs://graft/jobs/1/model", classes=tuple(CLASSES))
        assert training.history["loss"][0] < job.training.history["loss"][0]

    def test_a_rejected_picture_has_no_label_but_all_else(self, training: TrainingRecord, job: Job) -> None:
        model = tf.saved_model.load(str(job.model.parents[1] / "3" / "model"))
        picture = tf.constant(pictures()[:1])
        keyed = model.signatures["keyed"](key=tf.constant(["a"]), inputs=picture)
        explained = model.signatures["explained"](key=tf.constant(["a"]), inputs=picture)
        assert keyed["label"].numpy().tolist() == [b""]
        assert explained["label"].numpy()[0].decode() in CLASSES
        assert np.array_equal(keyed["score"].numpy(), explained["score"].numpy())


class TestNovelty:
    def test_keyed_and_explained_answer_as_numpy_does(self, job: Job, signatures: Any) -> None:
        encoded = pictures()
        keys, inputs = tf.constant(["k"] * len(encoded)), tf.constant(encoded)
        keyed = signatures["keyed"](key=keys, inputs=inputs)["novelty"].numpy()
        pixels = np.stack([resize_picture(decode_picture(picture), SPEC) for picture in encoded])
        weights = read_weights(job.storage.local_path(job.arguments[3]), "efficientnet_lite0")
        pooled = build_network("efficientnet_lite0", weights)(pixels).numpy()
        assert keyed == pytest.approx(
            NoveltyScorer(read_novelty(job.model / NOVELTY)).score(pooled), abs=1e-3
        )
        explained = signatures["explained"](key=keys, inputs=inputs)["novelty"].numpy()
        assert keyed == pytest.approx(explained, abs=1e-6)
        assert ((keyed >= 0) & (keyed <= 1)).all()

    def test_a_picture_unlike_the_others_is_refused_by_both_runtimes(self, tmp_path: Path) -> None:
        storage, arguments = make_bucket(tmp_path / "bucket", *tiny_pictures())
        run_job(storage, arguments, "--units", "8", "--epochs", "1", "--reject-unlike", "0.99")
        directory = tmp_path / "bucket" / "jobs" / "1" / "model"
        own, _ = tiny_pictures(1)
        photograph = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        photograph[:, :, 0] = np.arange(64)
        encoded = [png(own[0]), png(photograph)]
        answer = tf.saved_model.load(str(directory)).signatures["keyed"](
            key=tf.constant(["own", "other"]), inputs=tf.constant(encoded)
        )
        labels = [label.decode() for label in answer["label"].numpy()]
        assert labels[0] in CLASSES
        assert labels[1] == ""
        model = TFLiteModel(directory, read_manifest(directory))
        pixels = np.stack([resize_picture(decode_picture(picture), SPEC) for picture in encoded])
        outputs, explanation = model.explain(pixels)
        novelty = explanation.novelty
        assert novelty is not None
        rows = zip(outputs, novelty.tolist(), strict=True)
        assert [model.head.label(row, value, may_reject=True)[0] for row, value in rows] == labels


class TestTFLiteExport:
    def test_it_answers_as_the_saved_model_does(self, job: Job, signatures: Any) -> None:
        encoded = pictures()
        pixels = np.stack([resize_picture(decode_picture(picture), SPEC) for picture in encoded])
        model = TFLiteModel(job.model, read_manifest(job.model), threads=2)
        expected = signatures["explained"](key=tf.constant(["k"] * len(encoded)), inputs=tf.constant(encoded))
        outputs, explanation = model.explain(pixels)
        assert np.abs(outputs - expected["outputs"].numpy()).max() < 1e-4
        assert np.abs(model.predict(pixels[:3]) - outputs[:3]).max() < 1e-5
        assert np.abs(explanation.activation - expected["activation"].numpy()).max() < 1e-3
        levels = explanation.features.astype(int) - expected["features"].numpy()
        assert np.abs(levels).max() <= 1
        assert explanation.novelty is not None
        assert explanation.novelty == pytest.approx(expected["novelty"].numpy(), abs=1e-3)
        again, of_three = model.explain(pixels[:3])
        assert np.abs(again - outputs[:3]).max() < 1e-5
        assert of_three.novelty == pytest.approx(explanation.novelty[:3], abs=1e-3)
        labels = [model.head.label(row, may_reject=True)[0] for row in outputs]
        assert labels == [label.decode() for label in expected["label"].numpy()]

    def test_the_job_says_how_far_it_is_from_tensorflow(self, job: Job) -> None:
        assert job.training.tflite is not None
        assert asdict(job.training.tflite) == asdict(read_manifest(job.model).parity)
        assert job.training.tflite.pictures == 3
        assert 0 <= job.training.tflite.largest_difference < 1e-5

    def test_the_backbone_is_converted_once_for_its_weights(self, job: Job) -> None:
        kept = [uri for uri in job.storage.list_uris("gs://graft/light/") if uri.endswith(".tflite")]
        assert len(kept) == 1
        assert job.storage.read_bytes(kept[0]) == (job.model / TFLITE_NETWORK).read_bytes()

    def test_a_kept_backbone_of_other_weights_is_converted_again(
        self, job: Job, signatures: Any, tmp_path: Path
    ) -> None:
        weights = read_weights(job.storage.local_path(job.arguments[3]), "efficientnet_lite0")
        changed = {name: array * 1.5 if "stem" in name else array for name, array in weights.items()}
        storage = Storage({"graft": tmp_path / "bucket"})
        uri = "gs://graft/light/kept.tflite"
        storage.write_bytes(uri, convert_network(build_mapped_network("efficientnet_lite0", changed)))
        model = tmp_path / "model"
        shutil.copytree(job.model, model)
        pixels = comparison_pixels(np.zeros((1, 224, 224, 3), np.uint8), SPEC)
        expected = signatures["pixels"](inputs=tf.constant(pixels))["outputs"].numpy()
        given = {"pixels": pixels, "expected": expected}
        network = partial(build_mapped_network, "efficientnet_lite0", weights)
        more = {"uri": uri, "storage": storage, "spec": SPEC, "reject_below": 0.0}
        assert add_tflite_export(model, network, **given, **more).is_equal
        assert (model / TFLITE_NETWORK).read_bytes() != storage.read_bytes(uri)
        for wrong in range(len(pixels)):
            given["expected"] = expected.copy()
            given["expected"][wrong] += 0.01
            assert not add_tflite_export(model, network, **given, **more).is_equal
        with pytest.raises(TFLiteUnavailable, match="differ from TensorFlow's by more than 0.0001"):
            read_manifest(model)


class TestPlaceholderConstants:
    def test_only_shapes_are_traced_and_numbers_are_filled_in(self, tmp_path: Path) -> None:
        placeholders, array = PlaceholderConstants(), np.arange(6, dtype=np.float32).reshape(2, 3)

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32)])
        def multiply(value: Any) -> dict[str, Any]:
            return {"product": value @ placeholders.constant(array)}

        tf.saved_model.save(tf.Module(), str(tmp_path), signatures=multiply)
        value = tf.constant([[1.0, 2.0]])

        def answer() -> list[Any]:
            signature = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
            product: list[Any] = signature(value)["product"].numpy().tolist()
            return product

        assert answer() == [[0, 0, 0]]
        placeholders.fill(tmp_path)
        assert answer() == [[6, 9, 12]]
        assert not (tmp_path / "fingerprint.pb").exists()

    def test_a_constant_that_is_not_in_the_file_is_an_error(self, tmp_path: Path) -> None:
        tf.saved_model.save(tf.Module(), str(tmp_path))
        placeholders = PlaceholderConstants()
        placeholders.constant(np.zeros(3, np.float32))
        with pytest.raises(SignatureMismatch, match="1 of 1 constants are not in"):
            placeholders.fill(tmp_path)


class TestSignatures:
    def test_all_answer_as_the_trainer_does_on_the_same_bytes(self, job: Job, signatures: Any) -> None:
        encoded = pictures()
        expected = trainers_outputs(job, encoded)
        pixels = np.stack([resize_picture(decode_picture(picture), SPEC) for picture in encoded])
        keys = [f"picture {number}" for number in range(len(encoded))]
        keyed = signatures["keyed"](key=tf.constant(keys), inputs=tf.constant(encoded))
        answers = [
            signatures["serving_default"](inputs=tf.constant(encoded)),
            signatures["pixels"](inputs=tf.constant(pixels)),
            keyed,
        ]
        for answer in answers:
            assert answer["outputs"].dtype == tf.float32
            assert np.abs(answer["outputs"].numpy() - expected).max() < 1e-3
        assert [key.decode() for key in keyed["key"].numpy()] == keys
        assert [label.decode() for label in keyed["label"].numpy()] == [
            CLASSES[k] for k in expected.argmax(1)
        ]
        assert keyed["score"].numpy() == pytest.approx(expected.max(1), abs=1e-3)

    def test_names_and_shapes_are_the_published_ones(self, signatures: Any) -> None:
        described = {
            name: (
                {
                    key: (spec.dtype.name, spec.shape.rank)
                    for key, spec in signature.structured_input_signature[1].items()
                },
                {key: spec.dtype.name for key, spec in signature.structured_outputs.items()},
            )
            for name, signature in signatures.items()
        }
        strings = {"label": "string", "key": "string"}
        strings |= dict.fromkeys(("score", "novelty", "outputs"), "float32")
        assert described == {
            "serving_default": ({"inputs": ("string", 1)}, {"outputs": "float32"}),
            "keyed": ({"key": ("string", 1), "inputs": ("string", 1)}, strings),
            "pixels": ({"inputs": ("uint8", 4)}, {"outputs": "float32"}),
            "explained": (
                {"key": ("string", 1), "inputs": ("string", 1)},
                {**strings, "features": "uint8", "activation": "float32"},
            ),
        }

    def test_the_map_of_explained_adds_up_to_the_logit(self, job: Job, signatures: Any) -> None:
        encoded = pictures()
        answer = signatures["explained"](key=tf.constant(["k"] * len(encoded)), inputs=tf.constant(encoded))
        pixels = np.stack([resize_picture(decode_picture(picture), SPEC) for picture in encoded])
        weights = read_weights(job.storage.local_path(job.arguments[3]), "efficientnet_lite0")
        pooled = build_network("efficientnet_lite0", weights)(pixels).numpy().astype(np.float64)
        head = Head(**read_npz(job.model / "graft" / "head.weights.npz"))
        before = pooled @ head.hidden_kernel + head.hidden_bias
        logits = np.maximum(before, 0) @ head.output_kernel + head.output_bias
        assert np.abs(answer["outputs"].numpy() - head.predict(pooled.astype(np.float32))).max() < 1e-3
        for row, activation in enumerate(answer["activation"].numpy()):
            best = logits[row].argmax()
            towards = head.output_kernel[:, best] - head.output_kernel.mean(1)
            constant = ((before[row] > 0) * head.hidden_bias) @ towards
            constant += head.output_bias[best] - head.output_bias.mean()
            assert activation.shape == (7, 7)
            expected = logits[row, best] - logits[row].mean()
            assert activation.mean() + constant == pytest.approx(expected, rel=0.02, abs=0.02)
            direction = answer["features"].numpy()[row].astype(np.float64)
            cosine = direction @ pooled[row] / np.linalg.norm(direction) / np.linalg.norm(pooled[row])
            assert cosine > 0.999

    def test_base64_text_gives_what_the_bytes_give(self, signatures: Any) -> None:
        picture = pictures()[0]
        texts = [picture, base64.b64encode(picture), base64.urlsafe_b64encode(picture)]
        texts += [base64.encodebytes(picture), base64.urlsafe_b64encode(picture).rstrip(b"=")]
        outputs = signatures["serving_default"](inputs=tf.constant(texts))["outputs"].numpy()
        assert np.abs(outputs - outputs[0]).max() < 1e-6

    def test_a_bad_picture_is_an_error(self, signatures: Any) -> None:
        with pytest.raises(tf.errors.InvalidArgumentError):
            signatures["serving_default"](inputs=tf.constant([pictures()[0], b"no picture"]))

    def test_outputs_other_than_the_trainers_are_a_mismatch(self, job: Job) -> None:
        pixels = np.zeros((2, 224, 224, 3), np.uint8)
        with pytest.raises(SignatureMismatch, match="differs from the trainer by"):
            check_export(job.model, pixels, np.full((2, 2), 9.0, np.float32))
        with pytest.raises(SignatureMismatch):
            check_export(job.model, pixels, np.full((2, 2), np.nan, np.float32))

    @pytest.mark.parametrize("wrong", [0, 1, 2])
    def test_every_picture_is_compared(self, job: Job, signatures: Any, wrong: int) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
        expected = signatures["pixels"](inputs=tf.constant(pixels))["outputs"].numpy()
        assert check_export(job.model, pixels, expected) == pytest.approx(expected, abs=1e-3)
        expected[wrong] = expected[wrong, ::-1] + 0.01
        with pytest.raises(SignatureMismatch):
            check_export(job.model, pixels, expected)


def test_inception_v3_trains_from_a_file_of_random_weights(tmp_path: Path) -> None:
    random, arrays = np.random.default_rng(0), {}
    for name, shape in weight_shapes("inception_v3").items():
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        variance = name.endswith("/variance")
        arrays[name] = (
            np.ones(shape, np.float32) if variance else random.normal(0, scale, shape).astype(np.float32)
        )
    (tmp_path / "random.npz").write_bytes(write_npz(arrays))
    storage, arguments = make_bucket(
        tmp_path / "bucket", *tiny_pictures(4), backbone="inception_v3", weights=str(tmp_path / "random.npz")
    )
    training = run_job(storage, arguments, "--units", "8", "--epochs", "1")
    assert training.work == FeatureWork(forwarded=4, cached=0)
    assert storage.exists("gs://graft/jobs/1/model/saved_model.pb")
