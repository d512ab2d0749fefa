"""`model.backbone` as a section: a frozen network of the user's own, from a file."""

from __future__ import annotations

import difflib
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.config.strict import Strict
from pipeline.types import JsonValue

MAX_SIZE = 2048
# fmt: off
APPLICATIONS = (  # of Keras 3
    "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge",
    "DenseNet121", "DenseNet169", "DenseNet201", "EfficientNetB0", "EfficientNetB1",
    "EfficientNetB2", "EfficientNetB3", "EfficientNetB4", "EfficientNetB5", "EfficientNetB6",
    "EfficientNetB7", "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2",
    "EfficientNetV2B3", "EfficientNetV2L", "EfficientNetV2M", "EfficientNetV2S",
    "InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Large",
    "MobileNetV3Small", "NASNetLarge", "NASNetMobile", "ResNet101", "ResNet101V2", "ResNet152",
    "ResNet152V2", "ResNet50", "ResNet50V2", "VGG16", "VGG19", "Xception",
)
# fmt: on
Side = Annotated[int, Field(ge=8, le=MAX_SIZE)]
Divisor = Annotated[float, Field(gt=0)]


class ScalingConfig(Strict):
    """What each channel of a picture, red, green and blue of 0 to 1, is normalised with."""

    mean: tuple[float, float, float] = Field(description="Subtracted from each channel.")
    std: tuple[Divisor, Divisor, Divisor] = Field(description="Divides what is left.")


Preset = Literal["levels", "unit", "symmetric", "imagenet", "caffe"]


def _tag_size(value: JsonValue) -> str:
    return "pair" if isinstance(value, list | tuple) else "side"


def _tag_scaling(value: JsonValue | ScalingConfig) -> str:
    return "section" if isinstance(value, dict | ScalingConfig) else "preset"


class NetworkConfig(Strict):
    """A frozen network of the user's own."""

    keras: str = Field("", description="A path or URI of a `.keras` file.")
    onnx: str = Field("", description="Instead of `keras`: a path or URI of an `.onnx` file.")
    application: str = Field(
        "", description="Instead of `keras`: the name of a network of `keras.applications`."
    )
    weights: str = Field(
        "",
        description="A path or URI of the weights of `application`: Keras's `.h5` or `.weights.h5`.",
    )
    output: str = Field(
        "",
        description="The layer whose output are the features, of an `.onnx` file a tensor or operation; by "
        "default the network's own output, or what its class layer is fed.",
    )
    image_size: (
        Annotated[
            Annotated[Side, Tag("side")] | Annotated[tuple[Side, Side], Tag("pair")],
            Discriminator(_tag_size),
        ]
        | None
    ) = Field(None, description="Side of the pictures, or `[height, width]`, where the file leaves it open.")
    scaling: (
        Annotated[
            Annotated[Preset, Tag("preset")] | Annotated[ScalingConfig, Tag("section")],
            Discriminator(_tag_scaling),
        ]
        | None
    ) = Field(
        None,
        description="How pixels are scaled before the network: `levels` 0 to 255, `unit` 0 to 1, `symmetric` "
        "-1 to 1, `imagenet`, `caffe`, or a `mean` and a `std`; not needed where the network scales itself.",
    )
    license: str = Field("unknown", description="Of the network's weights, for the model card.")

    @property
    def uri(self) -> str:
        """Where the file is."""
        return self.keras or self.onnx or self.weights

    @property
    def name(self) -> str:
        """The name of the application, or of the file."""
        return self.application or PurePosixPath(self.uri).name

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the YAML names."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @model_validator(mode="after")
    def _a_network_has_a_file(self) -> NetworkConfig:
        if sum(map(bool, (self.keras, self.onnx, self.application))) != 1:
            raise ValueError(
                "a network of your own needs either `keras`: the path or URI of a `.keras` file, or `onnx`: "
                "that of an `.onnx` file, or `application` and `weights`"
            )
        if bool(self.application) != bool(self.weights):
            raise ValueError(
                "`application` and `weights` belong together: a name, and the file of its weights"
            )
        if self.application and self.application not in APPLICATIONS:
            close = difflib.get_close_matches(self.application, APPLICATIONS, n=2)
            hint = f", for instance {' or '.join(close)}" if close else ""
            raise ValueError(f"`application` is the name of a network of `keras.applications`{hint}")
        return self
