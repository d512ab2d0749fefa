"""The networks of `keras.applications` by name, with weights from a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import keras

from pipeline.backbones.networks.imported import ImportedNetwork, NetworkOptions
from pipeline.backbones.networks.keras_import import find_pooled, trace_network
from pipeline.errors import NetworkRefused

# How each module's `preprocess_input` scales; those with `levels` scale in their own layers.
MODULE_SCALINGS = {
    **dict.fromkeys(("convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"), "levels"),
    **dict.fromkeys(("inception_resnet_v2", "inception_v3", "mobilenet", "mobilenet_v2"), "symmetric"),
    **dict.fromkeys(("nasnet", "resnet_v2", "xception"), "symmetric"),
    **dict.fromkeys(("resnet", "vgg16", "vgg19"), "caffe"),
    "densenet": "imagenet",
}


def import_application(name: str, path: Path, options: NetworkOptions) -> ImportedNetwork:
    """Build a network of `keras.applications` and load its weights, which hold no code.

    Args:
        name: Of the function that builds it, `MobileNetV3Small` for instance.
        path: Of the weights: Keras's `.h5` or `.weights.h5`, with or without the classifier layer.
        options: The YAML's.

    Raises:
        NetworkRefused: if the file has other weights.
    """
    build = getattr(keras.applications, name)
    whole = build(weights=None, **({"input_shape": (*options.size, 3)} if options.size else {}))
    model = build(weights=None, include_top=False, pooling="avg", input_shape=whole.input_shape[1:])
    _load_weights(name, path, model, whole)
    height, width = model.input_shape[1:3]
    pooled, output = find_pooled(model, options)
    scaling = options.choose_scaling(MODULE_SCALINGS[module_of(build)])
    function = trace_network(keras.Model(model.inputs, pooled), scaling, height, width)
    return ImportedNetwork(function=function, height=height, width=width, output=output)


def module_of(build: Callable[..., keras.Model]) -> str:
    """Return the name of the module that a network is built in."""
    return build.__module__.rpartition(".")[2]


def _load_weights(name: str, path: Path, model: keras.Model, whole: keras.Model) -> None:
    """Load a file of weights into a network without its classifier layer; the file may be with it."""
    reasons = []
    for each in (model, whole):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that it leaves out
                each.load_weights(path)
            if each is whole:
                model.set_weights(whole.get_weights()[: len(model.get_weights())])
        except (ValueError, OSError, KeyError, TypeError, UserWarning) as error:
            reasons.append((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
        else:
            return
    raise NetworkRefused(
        f"it does not hold the weights of {name}, neither without the classifier layer ({reasons[0]}) nor "
        f"with it ({reasons[1]}). Give the `.h5` or `.weights.h5` file of that network"
    )
