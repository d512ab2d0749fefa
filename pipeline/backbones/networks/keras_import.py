"""Finds in a `.keras` file what makes it a backbone: its input, its pooled output and its own scaling."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.backbones.networks.imported import ImportedNetwork, NetworkOptions, choose_size
from pipeline.backbones.networks.scaling import Scaling
from pipeline.errors import NetworkRefused
from pipeline.keras_archive import keras_version

_CLASS_ACTIVATIONS = ("softmax", "sigmoid")
_RESHAPES = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Dropout)


def import_keras(path: Path, options: NetworkOptions) -> ImportedNetwork:
    """Read a `.keras` file, whose layers were checked, in safe mode.

    Raises:
        NetworkRefused: naming what keeps it from being a backbone, and what to change.
    """
    model = _load(path)
    height, width = _find_size(model, options)
    pooled, name = find_pooled(model, options)
    scaling = options.choose_scaling("levels" if _rescales(model) else "")
    cut = keras.Model(model.inputs, pooled)
    return ImportedNetwork(
        function=trace_network(cut, scaling, height, width), height=height, width=width, output=name
    )


def _load(path: Path) -> keras.Model:
    fix = "Save the whole model again with `model.save('NAME.keras')`"
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise NetworkRefused(f"it is truncated, damaged or no `.keras` file: {error}. {fix}") from error
    except (TypeError, ValueError, AttributeError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise NetworkRefused(
            f"Keras {keras.__version__} cannot load it, which Keras {keras_version(path)} wrote: "
            f"{text[:300]}. {fix}, with this version of Keras"
        ) from error
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise NetworkRefused("it must have one input, a batch of pictures; call the model before saving it")
    return model


def _find_size(model: keras.Model, options: NetworkOptions) -> tuple[int, int]:
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4:
        raise NetworkRefused(f"its input must be (batch, height, width, 3). Received: {shape}")
    if shape[3] != 3:
        raise NetworkRefused(
            f"its input has {shape[3]} channels; pictures have 3, red, green and blue, the channels last. "
            f"Received: {shape}"
        )
    return choose_size(shape[1:3], options)


def find_pooled(model: keras.Model, options: NetworkOptions) -> tuple[keras.KerasTensor, str]:
    """Return the tensor of the features and the name of its layer.

    Raises:
        NetworkRefused: if the network has no such output, or several.
    """
    if options.output:
        return _named_output(model, options.output)
    if len(model.outputs) != 1:
        raise NetworkRefused(f"it has {len(model.outputs)} outputs; {_name_one(model)}")
    tensor = _before_classes(model.outputs[0])
    layer = _operation(tensor)
    if _is_pooled(tensor):
        return _flat(tensor), str(layer.name)
    raise NetworkRefused(
        f"it has no pooled output: that of {layer.name!r} is {tuple(tensor.shape)}, and features are (batch, "
        f"width). Save the network with `pooling='avg'` or a GlobalAveragePooling2D layer at its end, or "
        f"{_name_one(model)}"
    )


def _named_output(model: keras.Model, name: str) -> tuple[keras.KerasTensor, str]:
    layer = next((each for each in model.layers if each.name == name), None)
    if layer is None:
        raise NetworkRefused(f"it has no layer {name!r}; {_name_one(model)}")
    tensor = keras.tree.flatten(layer._inbound_nodes[-1].output_tensors)[0]
    if not _is_pooled(tensor):
        raise NetworkRefused(
            f"the output of {name!r} is {tuple(tensor.shape)}, and features are (batch, width); "
            f"{_name_one(model)}"
        )
    return _flat(tensor), name


def _name_one(model: keras.Model) -> str:
    names = [
        layer.name
        for layer in model.layers
        if layer._inbound_nodes and _is_pooled(keras.tree.flatten(layer._inbound_nodes[-1].output_tensors)[0])
    ]
    listed = ", ".join(names[-10:]) or "none has a pooled output"
    return f"set `output` to the name of a layer: {listed}"


def _before_classes(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Return what the class layer is fed if a network ends in class probabilities, else the tensor itself."""
    layer, is_classes = _operation(tensor), False
    while _is_activation(layer) or (is_classes and isinstance(layer, _RESHAPES)):
        is_classes = True
        before: keras.KerasTensor = layer.input
        layer = _operation(before)
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    is_class_layer = isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)
    if not is_class_layer or not (is_classes or activation in _CLASS_ACTIVATIONS):
        return tensor
    tensor = layer.input
    while isinstance(_operation(tensor), keras.layers.Dropout):
        tensor = _operation(tensor).input
    return tensor


def _is_activation(layer: keras.Operation) -> bool:
    if isinstance(layer, keras.layers.Softmax):
        return True
    is_plain = isinstance(layer, keras.layers.Activation)
    return is_plain and layer.activation.__name__ in _CLASS_ACTIVATIONS


def _operation(tensor: keras.KerasTensor) -> keras.Operation:
    return tensor._keras_history.operation


def _is_pooled(tensor: keras.KerasTensor) -> bool:
    shape = tuple(tensor.shape)
    return (len(shape) == 2 or (len(shape) == 4 and shape[1:3] == (1, 1))) and shape[-1] is not None


def _flat(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return tensor if len(tensor.shape) == 2 else keras.layers.Reshape((tensor.shape[-1],))(tensor)


def _rescales(model: keras.Model) -> bool:
    """Return True if the first layer, of nested models also, is a Rescaling."""
    layers = [each for each in model.layers if not isinstance(each, keras.layers.InputLayer)]
    if layers and isinstance(layers[0], keras.Model):
        return _rescales(layers[0])
    return bool(layers) and isinstance(layers[0], keras.layers.Rescaling)


def trace_network(
    model: keras.Model, scaling: Scaling, height: int, width: int
) -> tf.types.experimental.ConcreteFunction:
    """Return the function of uint8 pixels that scales them and runs a model."""

    def network(pixels: tf.Tensor) -> tf.Tensor:
        return tf.cast(model(scaling.apply(pixels), training=False), tf.float32)

    pixels = tf.TensorSpec((None, height, width, 3), tf.uint8, name="pixels")
    return tf.function(network, input_signature=[pixels], autograph=False).get_concrete_function()
