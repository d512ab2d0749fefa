"""Groups of operations that exporters write for one function, found and replaced by that function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.backbones.networks.onnx_graph.reading import OnnxReader

if TYPE_CHECKING:
    import onnx


def fuse_gelu(graph: onnx.GraphProto) -> int:
    """Replace `x / 2 * (1 + erf(x / sqrt(2)))` by GELU, which TFLite has; return how often.

    TFLite has no `erf`, and its replacement costs a dozen operations.
    """
    import onnx

    reader, count = OnnxReader(graph), 0
    for node in [each for each in graph.node if each.op_type == "Erf"]:
        match = _match_gelu(reader, node)
        if match:
            source, last = match
            last.CopyFrom(onnx.helper.make_node("Gelu", [source], list(last.output), name=last.name))
            count += 1
    return count


def _match_gelu(reader: OnnxReader, erf: onnx.NodeProto) -> tuple[str, onnx.NodeProto] | None:
    """Return the name of x and the operation that gives the result."""
    scaled = reader.producers.get(erf.input[0])
    source = None
    if scaled is not None:
        source = _times(reader, scaled, 1 / math.sqrt(2))
    raised = reader.only_user(erf.output[0])
    if source is None or raised is None or _other(reader, raised, "Add", 1.0) != erf.output[0]:
        return None
    product = reader.only_user(raised.output[0])
    if product is None or product.op_type != "Mul":
        return None
    factor = next((name for name in product.input if name != raised.output[0]), "")
    halved = reader.producers.get(factor)
    if halved is not None and _times(reader, halved, 0.5) == source:
        return source, product
    last = reader.only_user(product.output[0])
    if last is None:
        return None
    if factor == source and _times(reader, last, 0.5) == product.output[0]:
        return source, last
    is_half = _other(reader, product, "Mul", 0.5) == raised.output[0]
    others = {*last.input} == {source, product.output[0]}
    return (source, last) if is_half and last.op_type == "Mul" and others else None


def _times(reader: OnnxReader, node: onnx.NodeProto, factor: float) -> str | None:
    """Return what an operation multiplies by a factor, or divides by its inverse."""
    if node.op_type == "Div" and _is_number(reader, node.input[1], 1 / factor):
        return str(node.input[0])
    return _other(reader, node, "Mul", factor)


def _other(reader: OnnxReader, node: onnx.NodeProto, kind: str, number: float) -> str | None:
    """Return the operand of an operation whose other operand is a number."""
    if node.op_type != kind or len(node.input) != 2:
        return None
    for here, there in (node.input, node.input[::-1]):
        if _is_number(reader, there, number):
            return str(here)
    return None


def _is_number(reader: OnnxReader, name: str, number: float) -> bool:
    array = reader.constant(name)
    return array is not None and array.size == 1 and math.isclose(array.item(), number, rel_tol=1e-4)
