"""Networks of a user's own as `.onnx` files, written as exporters of PyTorch write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.backbones.networks.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT = onnx.TensorProto.FLOAT


@dataclass(slots=True, kw_only=True)
class OnnxBuilder:
    """Writes operations one after the other; each returns the name of its output."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, dtype, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        made = [f"{name or f'{kind}_{len(self.nodes)}'}{f'_{n}' if n else ''}" for n in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=made[0], **attributes))
        return made[0] if outputs == 1 else made

    def save(
        self,
        path: Path,
        output: str | Sequence[str],
        *,
        shape: Sequence[int | str | None] = ("batch", 3, 32, 32),
        opset: int = 17,
        kind: int = FLOAT,
        rank: int = 2,
    ) -> Path:
        names = [output] if isinstance(output, str) else output
        pixels = helper.make_tensor_value_info("pixels", kind, shape)
        results = [helper.make_tensor_value_info(name, FLOAT, [None] * rank) for name in names]
        graph = helper.make_graph(self.nodes, "network", [pixels], results, self.constants)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        onnx.save_model(model, path)
        return path


def convolution(builder: OnnxBuilder, value: str, inputs: int, outputs: int, random: Any, **more: Any) -> str:
    """Add a convolution of 3 x 3 with a bias."""
    groups = more.get("group", 1)
    kernel = random.normal(0, (2 / (9 * inputs / groups)) ** 0.5, (outputs, inputs // groups, 3, 3))
    more = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3], **more}
    return str(
        builder.add(
            "Conv", value, builder.constant(kernel), builder.constant(random.normal(0, 0.1, outputs)), **more
        )
    )


def save_convolutional(
    path: Path,
    *,
    classes: int = 0,
    softmax: bool = False,
    pools: bool = True,
    channels: int = 3,
    activation: str = "Relu",
    **save: Any,
) -> Path:
    """Save a network of three convolutions, one in groups and one depthwise."""
    builder, random = OnnxBuilder(), np.random.default_rng(0)
    value = convolution(builder, "pixels", channels, 16, random, strides=[2, 2])
    value = builder.add(activation, value)
    value = builder.add("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    value = builder.add("HardSwish", convolution(builder, value, 16, 32, random, group=4))
    value = builder.add("Sigmoid", convolution(builder, value, 32, 32, random, group=32), name="gate")
    if pools:
        value = builder.add("GlobalAveragePool", value, name="pool")
        value = builder.add("Flatten", value, axis=1, name="flat")
    if classes:
        kernel = builder.constant(random.normal(0, 1, (classes, 32)))
        bias = builder.constant(random.normal(0, 1, classes))
        value = builder.add("Gemm", value, kernel, bias, transB=1, name="logits")
    if softmax:
        value = builder.add("Softmax", value, axis=-1, name="classes")
    return builder.save(path, value, rank=2 if pools else 4, **save)


def save_transformer(path: Path, *, is_single: bool = False, pools: bool = True) -> Path:
    """Save a block of a vision transformer; sizes are computed in the graph, or written for one picture."""
    builder, random = OnnxBuilder(), np.random.default_rng(1)
    width, heads, places = 24, 3, 16

    def linear(value: str, inputs: int, outputs: int) -> str:
        product = builder.add("MatMul", value, builder.constant(random.normal(0, 0.3, (inputs, outputs))))
        return str(builder.add("Add", builder.constant(random.normal(0, 0.1, outputs)), product))

    def sizes(value: str, *wanted: int) -> str:
        if is_single:
            return builder.constant([1, *wanted], np.int64)
        batch = builder.add("Gather", builder.add("Shape", value), builder.constant(0, np.int64))
        row = builder.add("Unsqueeze", batch, builder.constant([0], np.int64))
        return str(builder.add("Concat", row, builder.constant(wanted, np.int64), axis=0))

    def norm(value: str) -> str:
        scale, bias = (builder.constant(random.normal(1, 0.1, width)) for _ in range(2))
        return str(builder.add("LayerNormalization", value, scale, bias, axis=-1))

    patches = builder.add(
        "Conv",
        "pixels",
        builder.constant(random.normal(0, 0.1, (width, 3, 8, 8))),
        kernel_shape=[8, 8],
        strides=[8, 8],
    )
    tokens = builder.add("Reshape", patches, sizes(patches, width, places))
    tokens = builder.add("Transpose", tokens, perm=[0, 2, 1])
    first = builder.constant(random.normal(0, 1, (1, 1, width)))
    first = builder.add("Expand", first, sizes(tokens, 1, width))
    value = builder.add("Concat", first, tokens, axis=1)
    value = builder.add("Add", value, builder.constant(random.normal(0, 0.3, (1, places + 1, width))))
    rows = linear(norm(value), width, 3 * width)
    rows = builder.add("Reshape", rows, sizes(rows, places + 1, 3, heads, width // heads))
    rows = builder.add("Transpose", rows, perm=[2, 0, 3, 1, 4])
    parts = [builder.add("Gather", rows, builder.constant(n, np.int64), axis=0) for n in range(3)]
    keys = builder.add("Transpose", parts[1], perm=[0, 1, 3, 2])
    weights = builder.add("Softmax", builder.add("MatMul", parts[0], keys), axis=-1)
    mixed = builder.add("Transpose", builder.add("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
    mixed = builder.add("Reshape", mixed, sizes(mixed, places + 1, width))
    value = builder.add("Add", value, linear(mixed, width, width))
    hidden = linear(norm(value), width, 2 * width)
    error = builder.add("Erf", builder.add("Div", hidden, builder.constant(2**0.5)))
    raised = builder.add("Add", error, builder.constant(1.0))
    hidden = builder.add("Mul", builder.add("Mul", hidden, raised), builder.constant(0.5))
    value = norm(builder.add("Add", value, linear(hidden, 2 * width, width)))
    if pools:
        value = builder.add("Gather", value, builder.constant(0, np.int64), axis=1, name="class_token")
    shape: list[int | str] = [1 if is_single else "batch", 3, 32, 32]
    return builder.save(path, value, shape=shape, rank=2 if pools else 3)


class _OnnxLayers:
    """The layers of an architecture as operations of ONNX, channels first, batch norms by themselves."""

    def __init__(self, builder: OnnxBuilder, weights: Mapping[str, NDArray[Any]]) -> None:
        self._builder, self._weights = builder, weights

    def conv(
        self, value: str, name: str, filters: int, kernel: tuple[int, int], *, strides: int = 1, **more: Any
    ) -> str:
        array = self._weights[f"{name}/kernel"].transpose(3, 2, 0, 1)
        return self._convolve(value, name, array, strides, 1, more.get("activation"))

    def depthwise(self, value: str, name: str, kernel: int, *, strides: int = 1) -> str:
        array = self._weights[f"{name}/kernel"].transpose(2, 3, 0, 1)
        return self._convolve(value, name, array, strides, len(array), "relu6")

    def _convolve(
        self, value: str, name: str, kernel: Any, strides: int, groups: int, activation: str | None
    ) -> str:
        add, constant = self._builder.add, self._builder.constant
        value = add(
            "Conv",
            value,
            constant(kernel),
            strides=[strides] * 2,
            auto_pad="SAME_UPPER",
            group=groups,
            kernel_shape=list(kernel.shape[2:]),
        )
        parts = [constant(self._weights[f"{name}/{part}"]) for part in ("gamma", "beta", "mean", "variance")]
        value = add("BatchNormalization", value, *parts, epsilon=1e-3)
        return str(add("Clip", value, constant(0.0), constant(6.0)) if activation else value)

    def add(self, left: str, right: str) -> str:
        return str(self._builder.add("Add", left, right))

    def global_average(self, value: str) -> str:
        pooled = self._builder.add("GlobalAveragePool", value)
        return str(self._builder.add("Flatten", pooled, axis=1, name="features"))


def save_onnx_lite0(path: Path, weights: Mapping[str, NDArray[Any]]) -> Path:
    """Save EfficientNet-Lite0 with a class layer, as classifiers of PyTorch are exported.

    Args:
        path: Where to.
        weights: As they are staged.
    """
    builder = OnnxBuilder()
    layers: Any = _OnnxLayers(builder, weights)
    features = ARCHITECTURES["efficientnet_lite0"](layers, "pixels")
    kernel = np.random.default_rng(0).normal(0, 0.05, (10, 1280))
    logits = builder.add("Gemm", features, builder.constant(kernel), builder.constant(np.zeros(10)), transB=1)
    return builder.save(path, logits, shape=("batch", 3, 224, 224))
