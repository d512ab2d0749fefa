"""Small networks of a user's own, as Keras files. TensorFlow is imported when one is made."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


def save_lite0(path: Path, weights: Mapping[str, NDArray[Any]]) -> Path:
    """Save EfficientNet-Lite0 as a network of a user's own, which scales its pixels itself.

    Args:
        path: Where to.
        weights: As they are staged.
    """
    import keras

    from pipeline.backbones.networks.keras_model import build_keras_model

    pixels = keras.Input((224, 224, 3))
    scaled = keras.layers.Rescaling(1 / 128, -127 / 128)(pixels)
    return _save(keras.Model(pixels, build_keras_model("efficientnet_lite0", weights)(scaled)), path)


def save_keras_network(
    path: Path,
    *,
    size: int | None = 32,
    channels: int = 3,
    pools: bool = True,
    rescales: bool = True,
    classes: int = 0,
) -> Path:
    """Save a network of three convolutions, whose first weights are always the same."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    value = pixels = keras.Input((size, size, channels))
    if rescales:
        value = layers.Rescaling(1 / 127.5, -1)(value)
    for filters in (16, 32, 48):
        kernel = keras.initializers.HeNormal()
        value = layers.Conv2D(filters, 3, 2, padding="same", kernel_initializer=kernel)(value)
        value = layers.BatchNormalization()(value)
        value = layers.Activation("swish")(value)
    if pools:
        value = layers.GlobalAveragePooling2D(name="pool")(value)
    if classes:
        value = layers.Dropout(0.1)(value)
        value = layers.Dense(classes, activation="softmax", name="predictions")(value)
    return _save(keras.Model(pixels, value), path)


def save_application(path: Path, name: str) -> Path:
    """Save weights of a network of `keras.applications`, drawn so that its features tell pictures apart."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, include_top=False, pooling="avg")
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # so that one batch makes its statistics
    noise = [random.integers(0, 256, (side, side, 3)) for side in (4, 8, 16, 32, 64, 96)]
    pictures = [keras.ops.image.resize(each.astype(np.float32), (96, 96)) for each in noise]
    model(np.stack(pictures), training=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the format, which is that of Keras's host
        model.save_weights(path.with_suffix(".weights.h5"))
    return path.with_suffix(".weights.h5")


def _save(model: keras.Model, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # Keras's
        model.save(path)
    return path
