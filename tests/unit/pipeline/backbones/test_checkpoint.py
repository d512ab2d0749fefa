from __future__ import annotations

import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from pipeline.backbones.checkpoint import read_checkpoint
from pipeline.errors import WeightsMismatch

MAGIC = 0x1950A86A20F9469CFC6C


class _Storage:
    def __init__(self, key: str, length: int) -> None:
        self.key, self.length = key, length


class _Tensor:
    def __init__(
        self, storage: _Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0
    ) -> None:
        self.arguments = (storage, offset, size, stride, False, OrderedDict())

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture(autouse=True)
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the pickler modules that bear PyTorch's names; the reader must not need them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})  # type: ignore[attr-defined]

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    torch._utils = utils  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Storage):
            return ("storage", sys.modules["torch"].FloatStorage, value.key, "cpu", value.length, None)
        return None


def checkpoint(state: Any, storages: dict[str, list[float]], magic: int = MAGIC) -> bytes:
    import io

    file = io.BytesIO()
    for value in (magic, 1001, {"little_endian": True}):
        pickle.dump(value, file, 2)
    _Pickler(file, 2).dump(state)
    pickle.dump(list(storages), file, 2)
    for values in storages.values():
        file.write(struct.pack("<q", len(values)) + np.array(values, "<f4").tobytes())
    return file.getvalue()


def test_tensors_are_read_with_their_strides_and_offsets() -> None:
    storage = _Storage("0", 6)
    state = OrderedDict(a=_Tensor(storage, (2, 2), (2, 1)), b=_Tensor(storage, (2,), (1,), 4))
    state["turned"] = _Tensor(storage, (2, 2), (1, 2))
    tensors = read_checkpoint(checkpoint(state, {"0": [0, 1, 2, 3, 4, 5]}))
    assert tensors["a"].tolist() == [[0, 1], [2, 3]]
    assert tensors["b"].tolist() == [4, 5]
    assert tensors["turned"].tolist() == [[0, 2], [1, 3]]


class _Attack:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-a-pickle",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMismatch, match=r"names posix\.mkdir, which is not allowed"):
        read_checkpoint(checkpoint({"a": _Attack()}, {}))
    assert not list(tmp_path.iterdir())


def test_a_tensor_outside_its_storage_is_refused() -> None:
    state = {"a": _Tensor(_Storage("0", 2), (2, 2), (2, 1))}
    with pytest.raises(WeightsMismatch, match="reaches outside its storage"):
        read_checkpoint(checkpoint(state, {"0": [1, 2]}))


@pytest.mark.parametrize(
    "data", [b"", b"PK\3\4 a zip", pickle.dumps("something"), checkpoint({}, {}, magic=1)]
)
def test_another_format_is_a_mismatch(data: bytes) -> None:
    with pytest.raises(WeightsMismatch, match="The checkpoint cannot be read"):
        read_checkpoint(data)
