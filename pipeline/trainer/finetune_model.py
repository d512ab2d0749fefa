"""The Keras model that fine-tuning trains: the last blocks of a backbone, or all of it, and a dense head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from pipeline.artifacts.finetuning import FinetuneParameters
from pipeline.backbones.networks.blocks import list_blocks, trained_layers
from pipeline.backbones.networks.keras_model import build_keras_model, read_keras_weights
from pipeline.backbones.table import Backbone
from pipeline.tflite.head import Head
from pipeline.types import Float32Features, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

Inputs: TypeAlias = "NDArray[np.float32] | NDArray[np.uint8]"  # flat feature maps, or pixels
Weights: TypeAlias = "Mapping[str, NDArray[np.float32]]"
BATCH_SIZE = 32  # of passes that train nothing


class FinetuneModel:
    """A backbone as a Keras model, with a head whose every weight is trained.

    Batch norm stays as it came: the statistics of a few pictures a step would replace those of a million.

    Args:
        backbone: A row of the table.
        weights: Those that training begins from.
        head: The head that training begins from.
        parameters: What is trained, and on what.
        seed: Of what alters pictures.
    """

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        head: Head,
        parameters: FinetuneParameters,
        *,
        seed: int,
    ) -> None:
        keras.utils.set_random_seed(seed)
        self._backbone, self._names = backbone, tuple(weights)
        self._base = build_keras_model(backbone.name, weights)
        trained = set(trained_layers(backbone.name, parameters.num_blocks))
        for layer in self._base.layers:
            layer.trainable = layer.name in trained  # batch norm never is, and so runs as in inference
        inputs, altered, plain, network = self._enter(parameters, seed)
        self._head = [
            keras.layers.Dense(len(head.hidden_bias), activation="relu", name="hidden"),
            keras.layers.Dense(len(head.output_bias), activation="softmax", name="output"),
        ]
        outputs = network(altered)
        for layer in self._head:
            outputs = layer(outputs)
        self.keras = keras.Model(inputs, outputs)
        self._pool = _as_function(keras.Model(inputs, network(plain)))
        self.set_head(head)

    def _enter(
        self, parameters: FinetuneParameters, seed: int
    ) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor, keras.Model]:
        """Return the input, what the network is fed in training and otherwise, and the network."""
        spec = self._backbone.spec
        if parameters.on == "maps":
            block = list_blocks(self._backbone.name)[-(parameters.num_blocks or 0)]
            inputs = keras.Input((int(np.prod(block.shape)),))
            feature_map = keras.layers.Reshape(block.shape)(inputs)
            upper = keras.Model(self._base.get_layer(block.layer).input, self._base.output)
            return inputs, feature_map, feature_map, upper
        inputs = keras.Input((spec.height, spec.width, 3), dtype="uint8")
        scaling = keras.layers.Rescaling(1 / spec.divisor, -spec.offset / spec.divisor)
        altered = inputs
        for layer in augmentation_layers(seed) if parameters.augments else ():
            altered = layer(altered)
        return inputs, scaling(altered), scaling(inputs), self._base

    def set_head(self, head: Head) -> None:
        """Replace the weights of the head."""
        for layer in self._head:
            layer.set_weights([head.arrays()[f"{layer.name}_{part}"] for part in ("kernel", "bias")])

    def head(self) -> Head:
        """Return the head as it is now."""
        return Head(
            **{
                f"{layer.name}_{part}": np.array(value, np.float32)
                for layer in self._head
                for part, value in zip(("kernel", "bias"), layer.get_weights(), strict=True)
            }
        )

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights of the whole backbone as they are now, by the names they are staged under."""
        return read_keras_weights(self._base, self._names)

    def pool(self, inputs: Inputs) -> Float32Features:
        """Return the pooled features, of pictures as they are.

        Shapes:
            inputs: (num_images, ...) as the model is fed.  returns: (num_images, feature_width).
        """
        starts = range(0, len(inputs), BATCH_SIZE)
        return np.concatenate([self._pool(inputs[start : start + BATCH_SIZE]).numpy() for start in starts])

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(int(np.prod(variable.shape)) for variable in self.keras.trainable_variables)


class LowerNetwork:
    """The part of a backbone below the blocks that are trained.

    Args:
        backbone: A row of the table.
        weights: Its weights.
        blocks: How many of the last blocks are trained.
    """

    def __init__(self, backbone: Backbone, weights: Weights, blocks: int) -> None:
        base, spec = build_keras_model(backbone.name, weights), backbone.spec
        pixels = keras.Input((spec.height, spec.width, 3), dtype="uint8")
        scaled = keras.layers.Rescaling(1 / spec.divisor, -spec.offset / spec.divisor)(pixels)
        lower = keras.Model(base.input, base.get_layer(list_blocks(backbone.name)[-blocks].layer).input)
        self._function = _as_function(keras.Model(pixels, lower(scaled)))

    def __call__(self, pixels: UInt8Images) -> Float32Features:
        """Return the feature maps, each as one row.

        Shapes:
            pixels: (batch, height, width, 3) uint8.  returns: (batch, rows * columns * channels) float32.
        """
        maps: Float32Features = self._function(pixels).numpy()
        return maps.reshape(len(pixels), -1)


def augmentation_layers(seed: int) -> Sequence[keras.Layer]:
    """Return the layers that alter pictures anew in each epoch, much as `augmentation.views` does once."""
    layers = keras.layers
    return (
        layers.Rescaling(1.0),  # pixels are whole numbers, which cannot be shifted by a part of a place
        layers.RandomFlip("horizontal", seed=seed),
        layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", seed=seed + 1),
        layers.RandomZoom((-0.2, 0.0), fill_mode="nearest", seed=seed + 2),
        layers.RandomBrightness(0.1, value_range=(0, 255), seed=seed + 3),
    )


def _as_function(model: keras.Model) -> tf.types.experimental.PolymorphicFunction:
    """Return a model as one graph for batches of any size; `predict` would compile it with XLA first."""
    shape = (None, *model.input_shape[1:])
    spec = tf.TensorSpec(shape, model.inputs[0].dtype)
    return tf.function(lambda inputs: model(inputs, training=False), input_signature=[spec], autograph=False)
