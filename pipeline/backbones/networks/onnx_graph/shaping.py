"""Operations that move numbers without changing them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.onnx_graph.node import Node
from pipeline.backbones.networks.onnx_graph.values import (
    BATCH,
    TO_FIRST,
    TO_LAST,
    Sizes,
    Value,
)
from pipeline.errors import NetworkRefused

_LAST_AXIS = {0: 0, 1: 3, 2: 1, 3: 2}  # of an axis of the file, where the channels are last


def shape(node: Node) -> Value:
    """Return the sizes, which are known but for the batch."""
    sizes = node.value(0).sizes
    end = node.integer("end", len(sizes))
    return Value(np.array(sizes[node.integer("start", 0) : end], np.int64))


def reshape(node: Node) -> Value:
    """Give the numbers other sizes."""
    value, wanted = node.value(0), node.value(1).integers
    if value.is_constant:  # of which the batch is one, see `expand`
        wanted = [size // BATCH if size % BATCH == 0 else size for size in wanted]
    return value.reshape(choose_sizes(value.sizes, wanted, is_single=node.is_single))


def choose_sizes(sizes: Sizes, wanted: Sequence[int], *, is_single: bool) -> Sizes:
    """Return the sizes of a `Reshape`.

    Args:
        sizes: Before.
        wanted: What the file says: 0 keeps a size, -1 takes what is left.
        is_single: Whether the file counts the batch as one picture.
    """
    kept = [sizes[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if not is_single or any(size and size % BATCH == 0 for size in kept):
        return _fill(kept, math.prod(sizes))
    single = tuple(size // BATCH if size % BATCH == 0 else size for size in sizes)
    return _with_batch(sizes, single, _fill(kept, math.prod(single)))


def _fill(sizes: Sequence[int], total: int) -> Sizes:
    others = math.prod(size for size in sizes if size != -1)
    if (-1 not in sizes and others != total) or others == 0 or total % others:
        raise NetworkRefused(
            f"it reshapes {total} numbers to {list(sizes)}. Export the network with a dynamic batch axis"
        )
    return tuple(total // others if size == -1 else size for size in sizes)


def _with_batch(sizes: Sizes, before: Sizes, after: Sizes) -> Sizes:
    """Return the sizes after a reshape of one picture for a batch of them.

    The axis that the batch is part of stands for certain axes afterwards: those with the same product of all
    axes before them. An axis of one among them is the batch; else the batch is merged into a neighbour.
    """
    axis = next((axis for axis, size in enumerate(sizes) if size and size % BATCH == 0), None)
    if axis is None:
        return after
    start, end = math.prod(before[:axis]), math.prod(before[: axis + 1])
    starts = [math.prod(after[:place]) for place in range(len(after))]
    ends = [begin * size for begin, size in zip(starts, after, strict=True)]
    group = [place for place in range(len(after)) if start <= starts[place] and ends[place] <= end]
    ones = [place for place in group if after[place] == 1]
    if start not in (*starts, math.prod(after)):
        raise NetworkRefused(
            "it was exported for one picture and mixes the batch with other axes. Export it with a dynamic "
            "batch axis"
        )
    place = starts.index(start) if start in starts else len(after)
    is_row = place == len(after) - 1 or before[axis + 1 : axis + 2] == after[place : place + 1]
    if ones:
        place = ones[0]
    elif place == len(after) or (place and before[axis] == 1 and is_row):
        place -= 1
    return (*after[:place], after[place] * BATCH, *after[place + 1 :])


def flatten(node: Node) -> Value:
    """Merge the axes before and after one."""
    value, axis = node.value(0), node.integer("axis", 1)
    sizes = value.sizes
    return value.reshape((math.prod(sizes[:axis]), math.prod(sizes[axis:])))


def squeeze(node: Node) -> Value:
    """Remove axes of length one."""
    value, axes = node.value(0), node.integers_or_input("axes", 1)
    sizes = value.sizes
    if axes is None:
        gone = {axis for axis, size in enumerate(sizes) if size == 1}
    else:
        gone = {axis % len(sizes) for axis in axes}
    if any(sizes[axis] != 1 for axis in gone):
        raise NetworkRefused(f"it removes axes {sorted(gone)} of a tensor of {batch_named(sizes)}")
    return value.reshape(tuple(size for axis, size in enumerate(sizes) if axis not in gone))


def unsqueeze(node: Node) -> Value:
    """Add axes of length one."""
    value, axes = node.value(0), node.integers_or_input("axes", 1) or []
    rank = value.rank + len(axes)
    new = {axis % rank for axis in axes}
    old = iter(value.sizes)
    return value.reshape(tuple(1 if axis in new else next(old) for axis in range(rank)))


def transpose(node: Node) -> Value:
    """Change the order of axes; from channels first to last and back costs nothing."""
    value = node.value(0)
    axes = tuple(node.integers("perm", range(value.rank)[::-1]))
    sizes = tuple(value.sizes[axis] for axis in axes)
    if value.is_last and axes == TO_LAST:
        return Value(value.last(), sizes=sizes)
    if not value.is_last and axes == TO_FIRST:
        return Value(last=value.first(), sizes=sizes)
    return Value(tf.transpose(value.first(), axes), sizes=sizes)


def concat(node: Node) -> Value:
    """Put values one after the other along an axis; constants are repeated for each picture."""
    values = [node.value(number) for number in range(len(node.inputs))]
    rank = max(value.rank for value in values)
    axis = node.integer("axis", 0) % rank
    if rank == 4 and any(value.is_last for value in values):
        tensors = _repeat([value.last() for value in values], _LAST_AXIS[axis])
        return Value(last=tf.concat(tensors, _LAST_AXIS[axis]))
    return Value(tf.concat(_repeat([value.first() for value in values], axis), axis))


def _repeat(tensors: list[tf.Tensor], axis: int) -> list[tf.Tensor]:
    """Repeat tensors of one place, such as a class token, to the sizes of the others."""
    largest = max(tensors, key=lambda tensor: sum(size is None or size != 1 for size in tensor.shape))
    return [tensor if tensor is largest else _as_long_as(tensor, largest, axis) for tensor in tensors]


def _as_long_as(tensor: tf.Tensor, other: tf.Tensor, axis: int) -> tf.Tensor:
    pairs = list(zip(tensor.shape, other.shape, strict=True))
    repeated = [number != axis and size == 1 and wanted != 1 for number, (size, wanted) in enumerate(pairs)]
    if not any(repeated):
        return tensor
    return tf.tile(tensor, tf.where(repeated, tf.shape(other), 1))


def expand(node: Node) -> Value:
    """Broadcast to sizes; axes of the batch stay one, and are broadcast by what uses them."""
    value = node.value(0)
    wanted = [1 if size % BATCH == 0 else size for size in node.value(1).integers]
    sizes = (1,) * (len(wanted) - value.rank) + value.sizes
    times = [
        size if old == 1 else 1 for old, size in zip(sizes[len(sizes) - len(wanted) :], wanted, strict=True)
    ]
    times = [1] * (len(sizes) - len(times)) + times
    return repeat(value.reshape(sizes), times)


def tile(node: Node) -> Value:
    """Repeat along axes."""
    return repeat(node.value(0), [1 if times % BATCH == 0 else times for times in node.value(1).integers])


def repeat(value: Value, times: Sequence[int]) -> Value:
    """Repeat a value along axes."""
    if all(number == 1 for number in times):
        return value
    if value.is_constant:
        return Value(np.tile(value.array, times))
    return Value(tf.tile(value.first(), times))


def constant_of_shape(node: Node) -> Value:
    """Return one number many times; the batch counts as one."""
    sizes = [1 if size % BATCH == 0 and size else size for size in node.value(0).integers]
    filled = node.tensor("value")
    return Value(
        np.full(sizes, 0.0 if filled is None else filled.item(), getattr(filled, "dtype", np.float32))
    )


def constant(node: Node) -> Value:
    """Return what is written in the file."""
    tensor = node.tensor("value")
    if tensor is not None:
        return Value(tensor)
    if node.has("value_float"):
        return Value(np.array(node.number("value_float", 0), np.float32))
    if node.has("value_int"):
        return Value(np.array(node.integer("value_int", 0), np.int64))
    if node.has("value_ints"):
        return Value(np.array(node.integers("value_ints"), np.int64))
    raise NetworkRefused("it is a constant of text or of sparse numbers")


def cut(node: Node) -> Value:
    """Return a part along axes (`Slice`)."""
    value = node.value(0)
    starts, ends = node.integers_or_input("starts", 1) or [], node.integers_or_input("ends", 2) or []
    axes = node.integers_or_input("axes", 3) or list(range(len(starts)))
    steps = node.integers_or_input("steps", 4) or [1] * len(starts)
    parts = [slice(None)] * value.rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis % value.rank] = _part(start, end, step, value.sizes[axis % value.rank])
    return take(value, parts)


def _part(start: int, end: int, step: int, size: int) -> slice:
    start, end, step = slice(start, end, step).indices(size)
    if size % BATCH == 0 and (start, end, step) != (0, size, 1):
        raise NetworkRefused("it takes a part of the pictures of a batch")
    is_whole = (start, end, step) == (0, size, 1)
    return slice(None) if is_whole else slice(start, end if end >= 0 else None, step)


def take(value: Value, parts: Sequence[slice]) -> Value:
    """Return a part of a value, in the order of axes that it has."""
    if all(part == slice(None) for part in parts):
        return value
    if value.is_constant:
        return Value(value.array[tuple(parts)])
    sizes = tuple(len(range(size)[part]) for size, part in zip(value.sizes, parts, strict=True))
    if value.is_last:
        return Value(last=value.last()[tuple(parts[axis] for axis in TO_LAST)], sizes=sizes)
    return Value(value.first()[tuple(parts)], sizes=sizes)


def split(node: Node) -> tuple[Value, ...]:
    """Cut along an axis into several parts."""
    value = node.value(0)
    axis = node.integer("axis", 0) % value.rank
    count, size = len(node.proto.output), value.sizes[axis]
    even = -(-size // count)
    lengths = node.integers_or_input("split", 1) or [min(even, size - even * n) for n in range(count)]
    ends = np.cumsum([0, *lengths])
    parts = []
    for start, end in zip(ends, ends[1:], strict=False):
        whole = [slice(None)] * value.rank
        whole[axis] = slice(int(start), int(end))
        parts.append(take(value, whole))
    return tuple(parts)


def gather(node: Node) -> Value:
    """Return places along an axis; one place is cut out."""
    value, places = node.value(0), node.value(1)
    axis = node.integer("axis", 0) % value.rank
    if not places.is_constant:
        return Value(tf.gather(value.first(), places.first(), axis=axis))
    size = value.sizes[axis]
    if size % BATCH == 0:
        raise NetworkRefused("it takes some of the pictures of a batch")
    numbers = places.array % size
    if numbers.size == 1:
        one = [slice(None)] * value.rank
        one[axis] = slice(int(numbers.item()), int(numbers.item()) + 1)
        part = take(value, one)
        return part.reshape((*value.sizes[:axis], *numbers.shape, *value.sizes[axis + 1 :]))
    return Value(tf.gather(value.first(), numbers, axis=axis))


def pad(node: Node) -> Value:
    """Add a border."""
    value, pads = node.value(0), node.integers_or_input("pads", 1) or []
    axes = node.optional(3)
    places = [axis % value.rank for axis in axes.integers] if axes else list(range(value.rank))
    amounts = [[0, 0] for _ in range(value.rank)]
    for number, axis in enumerate(places):
        amounts[axis] = [pads[number], pads[number + len(places)]]
    mode = {"constant": "CONSTANT", "reflect": "REFLECT"}.get(node.text("mode", "constant"))
    if mode is None or any(each < 0 for pair in amounts for each in pair):
        raise NetworkRefused("it pads by the edge, around, or by less than nothing")
    filler = node.optional(2)
    filled = float(filler.array.reshape(-1)[0]) if filler and filler.array.size else node.number("value", 0.0)
    return pad_value(value, amounts, filled, mode)


def pad_value(value: Value, amounts: Sequence[Sequence[int]], filled: float, mode: str = "CONSTANT") -> Value:
    """Add a border, in the order of axes that the value has."""
    if not any(amount for pair in amounts for amount in pair):
        return value
    if value.is_last:
        turned = [amounts[axis] for axis in TO_LAST]
        return Value(last=tf.pad(value.last(), turned, mode, filled))
    return Value(tf.pad(value.first(), amounts, mode, filled))


def depth_to_space(node: Node) -> Value:
    """Spread channels over places."""
    value, block = node.value(0), node.integer("blocksize", 1)
    batch, channels, height, width = value.sizes
    deep = channels // block**2
    if node.text("mode", "DCR") == "DCR":
        parts, axes = (batch, block, block, deep, height, width), (0, 3, 4, 1, 5, 2)
    else:
        parts, axes = (batch, deep, block, block, height, width), (0, 1, 4, 2, 5, 3)
    turned = Value(tf.transpose(value.reshape(parts).first(), axes))
    return turned.reshape((batch, deep, height * block, width * block))


def space_to_depth(node: Node) -> Value:
    """Put neighbouring places into channels."""
    value, block = node.value(0), node.integer("blocksize", 1)
    batch, channels, height, width = value.sizes
    parts = value.reshape((batch, channels, height // block, block, width // block, block))
    turned = Value(tf.transpose(parts.first(), (0, 3, 5, 1, 2, 4)))
    return turned.reshape((batch, channels * block**2, height // block, width // block))


def batch_named(sizes: Sizes) -> str:
    """Return sizes for a message, the batch by its name."""

    def name(size: int) -> str:
        times = size // BATCH
        return str(size) if size % BATCH or not size else "batch" if times == 1 else f"{times} batch"

    return f"({', '.join(map(name, sizes))})"


SHAPING: dict[str, Callable[[Node], Value | tuple[Value, ...]]] = {
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Pad": pad,
    "Reshape": reshape,
    "Shape": shape,
    "Slice": cut,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
