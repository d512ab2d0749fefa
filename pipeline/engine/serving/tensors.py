"""From the values that clients send to the arrays that a signature takes: checked, never bent. No TensorFlow.

A value that an input cannot hold is refused by its value, instance and input: nothing wraps, nothing is cut.
Whole floats are taken for integers, 0 and 1 for booleans, as v1's NumPy arrays were. Floats are rounded to
what the input has room for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.serving.instances import Infinite, PredictionFailed, TensorValue

Array = NDArray[np.generic]
Shape = tuple[int | None, ...]

STRING, BOOL = "string", "bool"
INTEGERS = frozenset("int8 int16 int32 int64 uint8 uint16 uint32 uint64".split())
FLOATS = frozenset("float16 bfloat16 float32 float64".split())
COMPLEX = frozenset(("complex64", "complex128"))
EXACT_WHOLE = 2.0**53 - 1  # up to here no other whole number is rounded to the same float64
MAX_TEXT = 60  # of a value in an error


class Unfit(Exception):
    """A value that its input cannot hold; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One input of a signature.

    Args:
        name: Its alias.
        dtype: NumPy's name of its type, or `string`.
        shape: Its sizes, the batch first; None is any size, and None for all of it any rank.
    """

    name: str
    dtype: str
    shape: Shape | None

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The type of its arrays; strings are objects, since NumPy's own cut zero bytes off."""
        return np.dtype(object if self.dtype == STRING else self.dtype)

    @property
    def batch_size(self) -> int | None:
        """How many instances it takes at once; None is any number."""
        return self.shape[0] if self.shape else None


def array_of(values: Sequence[TensorValue], spec: InputSpec) -> Array:
    """Return the array of one input.

    Args:
        values: One for each instance.
        spec: The input.

    Raises:
        PredictionFailed: naming the first instance that the input cannot take, and why.
    """
    array = _whole_array(values, spec.dtype)
    if array is not None:
        if problem := _shape_problem(array.shape[1:], spec):  # where v1's graph would have refused it
            raise PredictionFailed(
                f"Error during model execution: {problem} (instance 0, input {spec.name})."
            )
        return array
    rows: list[Array] = []
    for index, value in enumerate(values):
        try:
            row = _row(value, spec)
            if rows and row.shape != rows[0].shape:
                raise Unfit(f"its shape is {row.shape}, that of instance 0 is {rows[0].shape}")
        except Unfit as problem:
            raise PredictionFailed(
                f"Error processing input: {problem} (instance {index}, input {spec.name})."
            ) from problem
        rows.append(row)
    return np.stack(rows)


def _whole_array(values: Sequence[TensorValue], dtype: str) -> Array | None:
    """Return the values as NumPy reads them, if that is exact; None if each must be looked at."""
    if dtype == STRING:
        return None
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return None
    if dtype in INTEGERS:
        return _whole_integers(array, dtype)
    if dtype == BOOL and array.dtype.kind in "bi" and (array.dtype.kind == "b" or _within(array, 0, 1)):
        return array.astype(bool)
    if dtype in FLOATS and array.dtype.kind in "biuf":
        with np.errstate(over="ignore"):
            floats = array.astype(dtype)
        return floats if not np.isinf(floats).any() else None
    return None


def _whole_integers(array: Array, dtype: str) -> Array | None:
    kind, limits = array.dtype.kind, np.iinfo(dtype)
    if kind == "f":
        is_whole = bool(np.all(array == np.floor(array)))  # false for NaN
        if not is_whole or not _within(array, -EXACT_WHOLE, EXACT_WHOLE):
            return None
    elif kind not in "biu":
        return None
    return array.astype(dtype) if kind == "b" or _within(array, limits.min, limits.max) else None


def _within(array: Array, low: float, high: float) -> bool:
    return array.size == 0 or (low <= array.min().item() and array.max().item() <= high)


def _row(value: TensorValue, spec: InputSpec) -> Array:
    """Return the array of one instance, each of its values checked."""
    shape = _shape_of(value)
    if problem := _shape_problem(shape, spec):
        raise Unfit(problem)
    array = np.empty(math.prod(shape), spec.numpy_dtype if _is_known(spec.dtype) else object)
    for place, item in enumerate(_leaves(value)):
        array[place] = _scalar(item, spec.dtype)
    return array.reshape(shape)


def _shape_problem(shape: Sequence[int], spec: InputSpec) -> str:
    """Return what is wrong with the shape of an instance, or an empty text."""
    if spec.shape is None:
        return ""
    if not spec.shape:
        return "it is one value for the whole request, and instances have one each; export it with a batch"
    expected = spec.shape[1:]
    is_right = len(shape) == len(expected) and all(
        want in (None, got) for want, got in zip(expected, shape, strict=True)
    )
    text = ", ".join("any" if size is None else str(size) for size in expected)
    return "" if is_right else f"expected the shape ({text}). Received: {tuple(shape)}"


def _shape_of(value: TensorValue) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    shapes = {_shape_of(item) for item in value}
    if len(shapes) > 1:
        raise Unfit("its lists have different lengths; a tensor has one length in each dimension")
    return (len(value), *(shapes.pop() if shapes else ()))


def _leaves(value: TensorValue) -> Iterator[TensorValue]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _is_known(dtype: str) -> bool:
    return dtype in INTEGERS | FLOATS | COMPLEX or dtype in (STRING, BOOL)


def _scalar(value: TensorValue, dtype: str) -> TensorValue | complex:
    """Return one value as the input's type has it.

    Raises:
        Unfit: if it has none for it.
    """
    if dtype == STRING:
        return _text(value)
    if not _is_known(dtype):
        raise Unfit(f"JSON has no values of the type {dtype}")
    if not isinstance(value, bool | int | float):
        raise Unfit(f"expected {dtype}. Received: {_shown(value)}")
    if dtype in INTEGERS:
        return _integer(value, dtype)
    if dtype == BOOL:
        if value not in (0, 1):
            raise Unfit(f"expected true or false. Received: {_shown(value)}")
        return bool(value)
    return _float(value, dtype)


def _text(value: TensorValue) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise Unfit(f"expected a string. Received: {_shown(value)}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise Unfit("the string has half of a surrogate pair, which no text has") from error


def _integer(value: float, dtype: str) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise Unfit(f"expected {dtype}, a whole number. Received: {_shown(value)}")
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise Unfit(f"{_shown(value)} is out of range of {dtype} ({limits.min} to {limits.max})")
    return int(value)


def _float(value: float, dtype: str) -> float:
    try:
        number = float(value)
        with np.errstate(over="ignore"):
            is_infinite = bool(np.isinf(np.asarray(number).astype(dtype)))
    except OverflowError:  # an integer beyond float64
        is_infinite = True
    if is_infinite and not isinstance(value, Infinite):
        raise Unfit(f"{_shown(value)} is out of range of {dtype}")
    return number


def _shown(value: TensorValue) -> str:
    """Return a value for an error, without what a client may not want in a log, and never a whole array."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return f"an object with the keys {sorted(value)}"[:MAX_TEXT]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def values_of(name: str, array: Array) -> list[TensorValue]:
    """Return the rows of an output as JSON has them; none if it has no batch.

    Raises:
        PredictionFailed: if JSON has no such values.
    """
    if array.dtype.kind == "c":
        raise PredictionFailed(f"Output {name} has complex numbers, which JSON has not.")
    if array.dtype.kind == "V":  # of `ml_dtypes`: bfloat16 and smaller
        array = array.astype(np.float32)
    values: list[TensorValue] = array.tolist() if array.ndim else []
    return values
