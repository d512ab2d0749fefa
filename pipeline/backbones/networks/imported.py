"""What is found in a network's file, and what its YAML says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from pipeline.backbones.networks.scaling import SCALINGS, Scaling
from pipeline.errors import NetworkRefused
from pipeline.types import Float32Features, UInt8Images


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What the YAML says of a network of the user's own.

    Args:
        output: The layer or tensor whose output are the features; empty to find it.
        size: Height and width of the pictures; None to find them.
        scaling: A name of `SCALINGS`; empty to find it.
        mean: Of each channel, 0 to 1; with `std`, instead of `scaling`.
        std: Of each channel.
    """

    output: str = ""
    size: tuple[int, int] | None = None
    scaling: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def choose_scaling(self, own: str) -> Scaling:
        """Return the scaling that is named, or else the network's own.

        Args:
            own: A name of `SCALINGS`; empty if it is not to be told.

        Raises:
            NetworkRefused: if it is neither named nor found.
        """
        if self.mean and self.std:
            return Scaling.of_fractions(self.mean, self.std)
        if not self.scaling and not own:
            raise NetworkRefused(
                "it does not scale its pixels itself: its first layer is no Rescaling. Set `scaling` to what "
                f"it was trained on: {', '.join(SCALINGS)}, or a `mean` and a `std`"
            )
        return SCALINGS[self.scaling or own]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedNetwork:
    """A network as read from its file.

    Args:
        function: From uint8 pixels to pooled features; variables are not frozen yet.
        height: Rows of its input, pixels.
        width: Columns of its input, pixels.
        output: Name of what the features are the output of.
        reference: Another program that runs the file, to compare with; None where `function` runs it.
    """

    function: tf.types.experimental.ConcreteFunction
    height: int
    width: int
    output: str
    reference: Callable[[UInt8Images], Float32Features] | None = None


def choose_size(shape: tuple[int | None, ...], options: NetworkOptions) -> tuple[int, int]:
    """Return height and width of the input.

    Args:
        shape: Height and width of the file; None where it leaves one open.
        options: The YAML's.

    Raises:
        NetworkRefused: if neither tells one, or they differ.
    """
    named = options.size or (None, None)
    for there, wanted in zip(shape, named, strict=True):
        if there and wanted and there != wanted:
            raise NetworkRefused(
                f"its input is {shape[0]} x {shape[1]} pixels. Remove `image_size`. Received: {list(named)}"
            )
    height, width = (there or wanted for there, wanted in zip(shape, named, strict=True))
    if not height or not width:
        raise NetworkRefused("its input has no fixed size; set `image_size`, for instance 224")
    return height, width
