"""Reads the PyTorch checkpoints that Graft knows, EfficientNet-Lite's, without PyTorch.

A file is a legacy (before 1.6) stream of pickles. Unpickling runs code, so it happens here alone, on files
whose SHA-256 the backbone table pins, and through an allow-list of globals.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.errors import WeightsMismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Tensors: TypeAlias = "OrderedDict[str, NDArray[Any]]"
_Global: TypeAlias = "type[_Tensors] | Callable[..., NDArray[Any]] | np.dtype[Any]"
_StorageId: TypeAlias = "tuple[str, np.dtype[Any], str, str, int, Sequence[int] | None]"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_PARTS = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}


def read_checkpoint(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a legacy checkpoint by name.

    Raises:
        WeightsMismatch: if it is another format or names a global that is not allowed.
    """
    file = io.BytesIO(data)
    try:
        heading = [_Reader(file).load() for _ in range(3)]  # the third describes the machine that wrote it
        if heading[:2] != [_MAGIC, _PROTOCOL]:
            raise pickle.UnpicklingError("it does not start like a legacy checkpoint")
        reader = _Reader(file)
        tensors = reader.load()
        for key in _Reader(file).load():
            _fill(reader.storages[key], file)
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise WeightsMismatch(f"The checkpoint cannot be read: {error}.") from error
    return dict(tensors)


def convert_lite(tensors: Mapping[str, NDArray[Any]], backbone: str) -> dict[str, NDArray[Any]]:
    """Rename an EfficientNet-Lite's tensors and turn its kernels from PyTorch's axes to TensorFlow's.

    Raises:
        WeightsMismatch: if one is missing.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name in weight_shapes(backbone):
        layer, part = name.split("/")
        conv, norm = _lite_names(layer)
        if part == "kernel":
            axes = (2, 3, 0, 1) if layer.endswith("depthwise") else (2, 3, 1, 0)
            arrays[name] = tensors[f"{conv}.weight"].transpose(axes)
        else:
            source = next(theirs for theirs, ours in _PARTS.items() if ours == part)
            arrays[name] = tensors[f"{norm}.{source}"]
    return arrays


def _lite_names(layer: str) -> tuple[str, str]:
    if layer == "stem":
        return "_conv_stem", "_bn0"
    if layer == "head":
        return "_conv_head", "_bn1"
    block, _, role = layer.partition("_")
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[role]
    prefix = f"_blocks.{int(block.removeprefix('block'))}."
    return f"{prefix}_{role}_conv", prefix + norm


def _rebuild_tensor(
    storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> NDArray[Any]:
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if offset < 0 or min(stride, default=0) < 0 or last >= max(len(storage), 1):
        raise pickle.UnpicklingError("a tensor reaches outside its storage")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _fill(storage: NDArray[Any], file: IO[bytes]) -> None:
    (length,) = np.frombuffer(file.read(8), "<i8")
    if length != len(storage):
        raise pickle.UnpicklingError("the length of a storage is not what its tensors expect")
    storage[:] = np.frombuffer(file.read(storage.nbytes), storage.dtype)


_GLOBALS: dict[tuple[str, str], _Global] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, NDArray[Any]] = {}

    def find_class(self, module: str, name: str) -> _Global:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed") from None

    def persistent_load(self, pid: _StorageId) -> NDArray[Any]:
        _, dtype, key, _, length, view = pid
        if view is not None:
            raise pickle.UnpicklingError("it uses storage views")
        return self.storages.setdefault(key, np.zeros(length, dtype))
