"""`.onnx` files, read without TensorFlow: whether one is whole, and has only operations of ONNX."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import NetworkRefused

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 7  # before it, operations broadcast otherwise
MAX_FILE_BYTES = 1_000_000_000
STANDARD_DOMAINS = ("", "ai.onnx")
_EXPORT_AGAIN = "Export the network again, with opset 13 or newer"


def open_onnx(path: Path) -> onnx.ModelProto:
    """Return a file's model, its own functions replaced by their operations.

    Raises:
        NetworkRefused: naming what keeps it from being converted, and what to change.
    """
    _require_packages()
    import onnx
    from onnx.inliner import inline_local_functions

    if path.stat().st_size > MAX_FILE_BYTES:
        raise NetworkRefused(f"the file has more than {MAX_FILE_BYTES} bytes")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own class moves between its versions
        raise NetworkRefused(f"it is truncated, or no `.onnx` file: {error}. Copy it again") from error
    if not model.graph.node or not model.graph.output:
        raise NetworkRefused("it is truncated, or no `.onnx` file: it has no graph. Copy it again")
    if model.functions:
        model = inline_local_functions(model)
    _check_operations(model)
    _check_weights(model)
    return model


def _require_packages() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise NetworkRefused(
            f"reading it needs {' and '.join(missing)}, which cannot be imported here: "
            "pip install 'graft[onnx]'"
        )


def _check_operations(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.domain not in STANDARD_DOMAINS:
            raise NetworkRefused(
                f"its operation {node.op_type} ({node.name or node.output[0]}) is of the domain "
                f"{node.domain!r}, which is not part of ONNX. {_EXPORT_AGAIN} and standard operations only"
            )
    opset = max((each.version for each in model.opset_import if each.domain in STANDARD_DOMAINS), default=0)
    if opset < OLDEST_OPSET:
        raise NetworkRefused(
            f"it is written for opset {opset}; at least {OLDEST_OPSET} is read. {_EXPORT_AGAIN}"
        )


def _check_weights(model: onnx.ModelProto) -> None:
    import onnx

    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}.get("location", "another file")
            raise NetworkRefused(
                f"its weights ({tensor.name!r}) are in {place!r}. Save it as one file: "
                "`onnx.save_model(onnx.load(PATH), NEW_PATH)`, or export it with `external_data=False`"
            )
