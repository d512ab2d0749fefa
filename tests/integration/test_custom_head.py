"""A head of the user's own, trained by Keras and exported with the folded backbone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.artifacts.training import HeadParameters
from pipeline.errors import ConfigError, WeightsMismatch
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.tflite.head import LogisticHead
from pipeline.trainer.custom_head import KerasHead, build_custom_head, train_custom_head
from pipeline.trainer.export import check_export, export_model
from pipeline.trainer.head import initial_head
from pipeline.trainer.head_graph import apply_head, class_activation

WIDTH, CLASSES = 6, 3
HEAD = """
import keras

def my_head(feature_width, num_classes):
    return keras.Sequential([
        keras.Input((feature_width,)),
        keras.layers.Dense({units}, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense({classes}, activation="{last}"),
    ])
"""
SPEC = PixelSpec(height=8, width=8, offset=127.0, divisor=128.0)
PARAMETERS = HeadParameters(epochs=8, batch_size=10, learning_rate=0.05)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path / "bucket"})


def stage(storage: Storage, units: int = 16, classes: str = "num_classes", last: str = "softmax") -> str:
    text = HEAD.format(units=units, classes=classes, last=last).encode()
    uri = f"gs://graft/heads/{hashlib.sha256(text).hexdigest()}.py"
    storage.write_bytes(uri, text)
    return uri


def pictures(number: int, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    labels = np.arange(number) % CLASSES
    return (np.eye(CLASSES, WIDTH)[labels] * 3 + random.random((number, WIDTH))).astype(np.float32), labels


def train(storage: Storage, uri: str, **changes: Any) -> tuple[KerasHead, dict[str, list[float]]]:
    return train_custom_head(uri, storage, *pictures(60), CLASSES, PARAMETERS, **changes)


def test_it_learns_and_tells_each_epoch(storage: Storage) -> None:
    head, history = train(storage, stage(storage), validation=pictures(15, seed=1))
    features, labels = pictures(30, seed=2)
    assert (head.predict(features).argmax(1) == labels).all()
    assert sorted(history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert len(history["loss"]) == PARAMETERS.epochs


def test_the_same_seed_gives_the_same_head(storage: Storage) -> None:
    features, _ = pictures(5)
    first, second = (train(storage, stage(storage))[0].predict(features) for _ in range(2))
    assert np.array_equal(first, second)


def tiny_network() -> Any:
    def backbone(pixels: Any) -> Any:
        feature_map = tf.repeat(tf.cast(pixels, tf.float32) / 64, WIDTH // 3, -1)
        return tf.reduce_mean(feature_map, (1, 2)), feature_map

    return tf.function(backbone, input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8)])


def test_logistic_regression_is_exported_with_the_scaling_of_its_features(tmp_path: Path) -> None:
    random, network = np.random.default_rng(0), tiny_network()
    head = LogisticHead(
        output_kernel=random.normal(0, 5, (WIDTH, CLASSES)).astype(np.float32),
        output_bias=random.normal(size=CLASSES).astype(np.float32),
    )
    export_model(
        tmp_path / "model", build_network=lambda _: network, head=head, spec=SPEC, classes=["a", "b", "c"]
    )
    pixels = random.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    pixels[2] = 0  # features of zeros have no direction
    pooled, feature_map = (each.numpy() for each in network(pixels))
    check_export(tmp_path / "model", pixels, head.predict(pooled))
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pixels])
    answer = tf.saved_model.load(str(tmp_path / "model")).signatures["explained"](
        key=tf.constant(["1", "2", "3"]), inputs=encoded
    )
    outputs, activation = head.explain(pooled, feature_map)
    assert np.allclose(answer["outputs"].numpy(), outputs, atol=1e-5)
    assert np.allclose(answer["activation"].numpy(), activation, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, when it saves
def test_the_saved_model_answers_as_the_head_and_has_no_variable(storage: Storage, tmp_path: Path) -> None:
    head, _ = train(storage, stage(storage))
    network = tiny_network()
    export_model(
        tmp_path / "model", build_network=lambda _: network, head=head, spec=SPEC, classes=["a", "b", "c"]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    check_export(tmp_path / "model", pixels, head.predict(network(pixels)[0].numpy()))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert all(not signature.variables for signature in loaded.signatures.values())
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pixels])
    answer = loaded.signatures["explained"](key=tf.constant(["1", "2"]), inputs=encoded)
    assert answer["activation"].shape == (2, 8, 8)
    again = keras.saving.load_model(tmp_path / "model" / "graft" / "head.keras")
    assert np.allclose(again(network(pixels)[0]).numpy(), answer["outputs"].numpy(), atol=1e-5)


def test_its_activation_map_is_the_reference_heads_where_both_are_the_same_layers() -> None:
    dense = initial_head(WIDTH, CLASSES, units=5, seed=1)
    model = keras.Sequential(
        [
            keras.Input((WIDTH,)),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.layers[0].set_weights([dense.hidden_kernel, dense.hidden_bias])
    model.layers[1].set_weights([dense.output_kernel, dense.output_bias])
    feature_map = tf.constant(np.random.default_rng(0).random((4, 3, 3, WIDTH)), tf.float32)
    pooled = tf.reduce_mean(feature_map, (1, 2))
    outputs, activation = KerasHead(model).explain(pooled, feature_map)
    expected, hidden = apply_head(pooled, dense.arrays())
    assert np.allclose(outputs, expected, atol=1e-6)
    reference = class_activation(feature_map, hidden, tf.argmax(expected, 1), dense.arrays())
    assert np.allclose(activation, reference, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"classes": "4"}, r"from \(None, 6\) to \(None, 3\)\. Received: \(\(None, 6\), \(None, 4\)\)"),
        ({"last": "linear"}, "ends in probabilities; end it with `softmax`"),
    ],
)
def test_what_is_no_head_for_these_classes_is_told(
    storage: Storage, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        train(storage, stage(storage, **changes))


def test_a_text_that_its_name_does_not_promise_is_refused(storage: Storage) -> None:
    storage.write_bytes("gs://graft/heads/abc.py", b"def f(a, b): ...")
    with pytest.raises(WeightsMismatch, match="stage the head again"):
        build_custom_head("gs://graft/heads/abc.py", storage, WIDTH, CLASSES)
