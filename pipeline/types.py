"""Array aliases, for type checkers only, and words of settings: nothing heavy is imported at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    UInt8Image: TypeAlias = NDArray[np.uint8]  # (height, width, 3) RGB
    UInt8Images: TypeAlias = NDArray[np.uint8]  # (num_images, height, width, 3) RGB
    BytesIds: TypeAlias = NDArray[np.bytes_]  # (num_images,) ids, fixed-width ASCII
    Int64Labels: TypeAlias = NDArray[np.int64]  # (num_images,)
    Float32Features: TypeAlias = NDArray[np.float32]  # (num_images, feature_width)
    Float32Outputs: TypeAlias = NDArray[np.float32]  # (num_images, num_classes)
    FloatArray: TypeAlias = NDArray[np.float64]  # of any shape
    IntArray: TypeAlias = NDArray[np.int64]
    BoolArray: TypeAlias = NDArray[np.bool_]
    ShardArray: TypeAlias = NDArray[np.uint8] | NDArray[np.int64] | NDArray[np.bytes_]  # pixels, labels, ids
else:
    UInt8Image = UInt8Images = BytesIds = Int64Labels = Float32Features = Float32Outputs = ShardArray = Any
    FloatArray = IntArray = BoolArray = Any

JsonValue: TypeAlias = (
    "None | bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue]"  # as `json` reads it
)
JsonObject: TypeAlias = "Mapping[str, JsonValue]"
JsonDict: TypeAlias = dict[str, Any]


class Profile(StrEnum):
    """What a stack is made of; a `GRAFT_HOME` has the state of one."""

    LAPTOP = "laptop"
    TEAM = "team"


class Role(StrEnum):
    """What a machine does for a team's stack that it has joined."""

    WORKER = "worker"
    SERVER = "server"
