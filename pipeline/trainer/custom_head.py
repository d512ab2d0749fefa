"""A head of the user's own: built by a staged file, trained by Keras on cached features, exported frozen."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.artifacts.training import HeadParameters, History
from pipeline.errors import ConfigError, WeightsMismatch
from pipeline.storage import Storage
from pipeline.trainer.head import Pictures, balance_classes, check_loss
from pipeline.trainer.head_file import find_builder
from pipeline.types import Float32Features, Float32Outputs, Int64Labels


class KerasHead:
    """A trained Keras model from pooled features to class probabilities, its weights constants.

    Args:
        model: The model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._weights = [
            [tf.constant(variable.numpy()) for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]

    @property
    def feature_width(self) -> int:
        """Length of the pooled features."""
        return int(self.model.input_shape[-1])

    @property
    def num_bytes(self) -> int:
        """Size of the weights."""
        return sum(weight.numpy().nbytes for weights in self._weights for weight in weights)

    def apply(self, pooled: tf.Tensor) -> tf.Tensor:
        """Return class probabilities, as operations on constants."""
        outputs, _ = self.model.stateless_call(*self._weights, pooled, training=False)
        return outputs

    def explain(self, pooled: tf.Tensor, feature_map: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return class probabilities and the class-activation map.

        The map is each place's share of the most probable class's logit less the mean of all logits, the head
        being taken as linear around the picture: exactly what it is where layers are linear and ReLU.
        """
        with tf.GradientTape() as tape:
            tape.watch(pooled)
            outputs = self.apply(pooled)
            logits = tf.math.log(tf.maximum(outputs, 1e-37))
            score = tf.reduce_max(logits, 1) - tf.reduce_mean(logits, 1)
        return outputs, tf.einsum("bhwk,bk->bhw", feature_map, tape.gradient(score, pooled))

    def predict(self, features: Float32Features) -> Float32Outputs:
        """Return class probabilities.

        Shapes:
            features: (num_images, feature_width).  returns: (num_images, classes).
        """
        outputs: Float32Outputs = self.apply(tf.constant(features)).numpy()
        return outputs

    def write(self, directory: Path) -> None:
        """Write the model beside the SavedModel, as `graft/head.keras`."""
        self.model.save(directory / "graft" / "head.keras")


def build_custom_head(uri: str, storage: Storage, feature_width: int, num_classes: int) -> keras.Model:
    """Run a staged file and return the Keras model that it builds.

    Raises:
        WeightsMismatch: if the file is not the one that its name promises.
        ConfigError: if what it builds is no head for these features and classes.
    """
    data = storage.read_bytes(uri)
    digest = hashlib.sha256(data).hexdigest()
    if uri.rpartition("/")[2] != f"{digest}.py":
        raise WeightsMismatch(f"The text of {uri} has the SHA-256 {digest}; stage the head again.", uri=uri)
    name = find_builder(data, origin=uri)
    with tempfile.TemporaryDirectory(prefix="graft-head-") as temporary:
        path = Path(temporary) / "head.py"
        path.write_bytes(data)
        spec = importlib.util.spec_from_file_location("graft_head", path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{uri} cannot be imported; it must be a Python file.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return _checked(getattr(module, name)(feature_width, num_classes), name, feature_width, num_classes)


def _checked(model: keras.Model, name: str, feature_width: int, num_classes: int) -> keras.Model:
    expected = ((None, feature_width), (None, num_classes))
    if not isinstance(model, keras.Model):
        raise ConfigError(f"`{name}` must return a Keras model. Received: {type(model).__name__}")
    if not model.built:
        model.build(expected[0])
    shapes = (model.input_shape, model.output_shape)
    if shapes != expected:
        raise ConfigError(
            f"`{name}` must return a model from {expected[0]} to {expected[1]}. Received: {shapes}"
        )
    return model


def train_custom_head(
    uri: str,
    storage: Storage,
    features: Float32Features,
    labels: Int64Labels,
    num_classes: int,
    parameters: HeadParameters,
    *,
    validation: Pictures | None = None,
) -> tuple[KerasHead, History]:
    """Build a head and train it as the reference head is: Adam, cross-entropy, the best epoch kept.

    Args:
        uri: Of the staged file.
        storage: Where it is.
        features: Pooled features of the training pictures.
        labels: Class index of each.
        num_classes: Width of the output.
        parameters: Rates and epochs; `units` is the file's own affair.
        validation: Features and labels that judge each epoch and train none.

    Shapes:
        features: (num_images, feature_width) float32.  labels: (num_images,) int64.

    Raises:
        ConfigError: if the file builds no such head.
        TrainingDiverged: when the loss is no longer a number.
    """
    keras.utils.set_random_seed(parameters.seed)
    model = build_custom_head(uri, storage, features.shape[1], num_classes)
    _compile(model, parameters)
    weights = balance_classes(labels, num_classes) if parameters.class_weights == "balanced" else None
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=parameters.patience or parameters.epochs, restore_best_weights=True
    )
    fitted = model.fit(
        features,
        labels,
        batch_size=parameters.batch_size,
        epochs=parameters.epochs,
        validation_data=validation,
        class_weight=None if weights is None else dict(enumerate(map(float, weights))),
        callbacks=[keras.callbacks.TerminateOnNaN(), *([stop] if validation is not None else [])],
        verbose=0,
    )
    history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    for epoch, loss in enumerate(history["loss"]):
        check_loss(loss, epoch, parameters)
    _check_outputs(model, features[:1])
    return KerasHead(model), history


def _compile(model: keras.Model, parameters: HeadParameters) -> None:
    model.compile(
        optimizer=keras.optimizers.Adam(parameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # compiling costs more than so small a model ever saves
    )


def _check_outputs(model: keras.Model, features: Float32Features) -> None:
    total = float(np.sum(model(features).numpy()))
    if abs(total - 1) > 1e-3:
        raise ConfigError(
            f"A head ends in probabilities; end it with `softmax`. Received: outputs of sum {total:.3g}"
        )
