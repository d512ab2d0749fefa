"""Operations on the rows and columns of a picture: convolutions, pools, sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.onnx_graph.node import Node
from pipeline.backbones.networks.onnx_graph.shaping import pad_value
from pipeline.backbones.networks.onnx_graph.values import Value
from pipeline.errors import NetworkRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Window:
    """A window that moves over rows and columns.

    Args:
        node: An operation with a window.
        lengths: Rows and columns of the window.
    """

    def __init__(self, node: Node, lengths: list[int]) -> None:
        self.value = node.value(0)
        if self.value.rank != 4 or len(lengths) != 2:
            raise NetworkRefused("only windows of rows and columns are converted, not of volumes or series")
        self.lengths = lengths
        self.strides = node.integers("strides", (1, 1))
        self.dilations = node.integers("dilations", (1, 1))
        self._places = self.value.sizes[2:]
        self._reach = [(length - 1) * by + 1 for length, by in zip(lengths, self.dilations, strict=True)]
        self.pads = self._find_pads(node)

    @property
    def is_same(self) -> bool:
        """Whether the border is the one that TensorFlow calls `SAME`."""
        return self.pads == self._pads_of_same(at_start=False)

    def padded(self, filled: float = 0.0) -> tf.Tensor:
        """Return the value with its border, channels last."""
        if not self.value.is_last:
            return pad_value(Value(last=self.value.last()), self._amounts(), filled).last()
        return pad_value(self.value, self._amounts(), filled).last()

    def _amounts(self) -> list[list[int]]:
        top, left, bottom, right = self.pads
        return [[0, 0], [0, 0], [top, bottom], [left, right]]

    def _find_pads(self, node: Node) -> list[int]:
        auto = node.text("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            return self._pads_of_same(at_start=auto == "SAME_LOWER")
        pads = [0, 0, 0, 0] if auto == "VALID" else node.integers("pads", (0, 0, 0, 0))
        if node.integer("ceil_mode", 0):
            for axis in (0, 1):
                pads[axis + 2] += self._missing(axis, pads)
        return pads

    def _missing(self, axis: int, pads: list[int]) -> int:
        """Return how much the border must grow so that the last window is whole."""
        before, size, stride = pads[axis], self._places[axis], self.strides[axis]
        room = size + before + pads[axis + 2] - self._reach[axis]
        steps = -(-room // stride)
        if steps * stride >= size + before:  # a window that begins in the border is left out
            steps -= 1
        return max(steps * stride - room, 0)

    def _pads_of_same(self, *, at_start: bool) -> list[int]:
        starts, ends = [], []
        for size, stride, reach in zip(self._places, self.strides, self._reach, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            small, large = total // 2, total - total // 2
            starts.append(large if at_start else small)
            ends.append(small if at_start else large)
        return [*starts, *ends]


def convolve(node: Node) -> Value:
    """Convolve; channels by themselves, in groups or all together."""
    kernel = node.value(1).array
    window = Window(node, list(kernel.shape[2:]))
    groups, channels = node.integer("group", 1), window.value.sizes[1]
    if kernel.shape[1] * groups != channels:
        raise NetworkRefused(f"it convolves {kernel.shape[1] * groups} channels. Received: {channels}")
    tensor = window.value.last() if window.is_same else window.padded()
    border = "SAME" if window.is_same else "VALID"
    result = _apply_kernel(tensor, kernel, window, groups, border)
    bias = node.optional(2)
    return Value(last=result if bias is None else result + bias.first())


def _apply_kernel(
    tensor: tf.Tensor, kernel: NDArray[Any], window: Window, groups: int, border: str
) -> tf.Tensor:
    is_depthwise = groups > 1 and kernel.shape[1] == 1 and len(set(window.strides)) == 1
    if not is_depthwise:
        turned = tf.constant(np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)))
        return tf.nn.conv2d(tensor, turned, window.strides, border, dilations=window.dilations)
    outputs, _, *lengths = kernel.shape
    turned = kernel.reshape(groups, outputs // groups, *lengths).transpose(2, 3, 0, 1)
    strides = [1, *window.strides, 1]
    return tf.nn.depthwise_conv2d(
        tensor, tf.constant(np.ascontiguousarray(turned)), strides, border, dilations=window.dilations
    )


def max_pool(node: Node) -> Value:
    """Take the largest number of each window."""
    window = _pool_window(node)
    if window.is_same:
        return Value(last=tf.nn.max_pool2d(window.value.last(), window.lengths, window.strides, "SAME"))
    padded = window.padded(float(np.finfo(np.float32).min))
    return Value(last=tf.nn.max_pool2d(padded, window.lengths, window.strides, "VALID"))


def average_pool(node: Node) -> Value:
    """Average each window, with its border or without it."""
    window = _pool_window(node)
    counts_border = bool(node.integer("count_include_pad", 0))
    if window.is_same and (not counts_border or not any(window.pads)):
        return Value(last=tf.nn.avg_pool2d(window.value.last(), window.lengths, window.strides, "SAME"))
    average = tf.nn.avg_pool2d(window.padded(), window.lengths, window.strides, "VALID")
    if counts_border and not node.integer("ceil_mode", 0):
        return Value(last=average)
    if counts_border:
        raise NetworkRefused("it averages windows that reach over their border (`ceil_mode`)")
    return Value(last=average / _shares(window))


def _shares(window: Window) -> NDArray[np.float32]:
    """Return which share of each window is no border.

    Shapes:
        returns: (1, rows, columns, 1) float32.
    """
    shares = []
    for axis, size in enumerate(window.value.sizes[2:]):
        inside = np.pad(np.ones(size, np.float32), (window.pads[axis], window.pads[axis + 2]))
        length, stride = window.lengths[axis], window.strides[axis]
        shares.append(np.lib.stride_tricks.sliding_window_view(inside, length)[::stride].mean(1))
    whole: NDArray[np.float32] = np.outer(*shares)[np.newaxis, :, :, np.newaxis].astype(np.float32)
    return whole


def _pool_window(node: Node) -> Window:
    window = Window(node, node.integers("kernel_shape"))
    if window.dilations != [1, 1] or len(node.proto.output) > 1:
        raise NetworkRefused("it pools with dilations or returns places")
    return window


def local_response(node: Node) -> Value:
    """Divide by the squares of neighbouring channels."""
    size, bias = node.integer("size", 1), node.number("bias", 1.0)
    alpha, beta = node.number("alpha", 1e-4), node.number("beta", 0.75)
    if size % 2 == 0:
        raise NetworkRefused("its window has an even number of channels")
    tensor = node.value(0).last()
    return Value(last=tf.nn.local_response_normalization(tensor, size // 2, bias, alpha / size, beta))


def resize(node: Node) -> Value:
    """Resize rows and columns, by the nearest place or by lines between places."""
    value, (height, width) = node.value(0), _new_places(node)
    mode = node.text("mode", "nearest")
    way = node.text("coordinate_transformation_mode", "half_pixel" if node.kind == "Resize" else "asymmetric")
    tensor, corners = value.last(), way == "align_corners"
    centres = way in ("half_pixel", "pytorch_half_pixel")
    if mode == "linear" and (centres or corners) and not node.integer("antialias", 0):
        raw = tf.raw_ops.ResizeBilinear
        return Value(
            last=raw(images=tensor, size=(height, width), align_corners=corners, half_pixel_centers=centres)
        )
    rows, columns = value.sizes[2:]
    rounding = node.text("nearest_mode", "round_prefer_floor" if node.kind == "Resize" else "floor")
    is_plain = rounding.startswith("round") if centres else (way, rounding) == ("asymmetric", "floor")
    if mode == "nearest" and height % rows == 0 and width % columns == 0 and is_plain:
        raw = tf.raw_ops.ResizeNearestNeighbor  # by whole factors both ways are the same
        return Value(last=raw(images=tensor, size=(height, width), half_pixel_centers=True))
    raise NetworkRefused(f"it resizes by {mode}, {way}, from {rows} x {columns} to {height} x {width}")


def _new_places(node: Node) -> tuple[int, int]:
    sizes = node.value(0).sizes
    if node.kind == "Upsample":
        factors = node.optional(1)
        scales = factors.array.tolist() if factors else list(node.proto.attribute[0].floats)
    elif (wanted := node.optional(3)) is not None and wanted.array.size:
        axes = node.integers("axes", range(len(wanted.integers)))
        lengths = dict(zip((axis % 4 for axis in axes), wanted.integers, strict=True))
        return lengths.get(2, sizes[2]), lengths.get(3, sizes[3])
    else:
        scales = node.value(2).array.tolist()
    if len(scales) != 4 or scales[:2] != [1, 1]:
        raise NetworkRefused(f"it resizes other axes than rows and columns, by {scales}")
    return int(sizes[2] * scales[2]), int(sizes[3] * scales[3])


SPATIAL: dict[str, Callable[[Node], Value]] = {
    "AveragePool": average_pool,
    "Conv": convolve,
    "LRN": local_response,
    "MaxPool": max_pool,
    "Resize": resize,
    "Upsample": resize,
}
