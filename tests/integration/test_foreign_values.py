"""Generated signatures and instances: the answer is what TensorFlow itself says of the values, or an error.

The oracle reads each value on its own, by Python's and NumPy's rules; the arrays that it takes are then
compared with `tf.constant` of the same values, bit by bit.
"""

from __future__ import annotations

import json
import math
import os
import queue
import random

import numpy as np
import pytest
import tensorflow as tf

from pipeline.engine.serving.instances import base64_bytes
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.messages import RequestKind, WorkerRequest
from pipeline.engine.serving.model import LoadedModel
from pipeline.engine.serving.saved_model import GraphSignature
from pipeline.engine.serving.worker import SerialWorker

COUNT = 10_000 if os.environ.get("GRAFT_SOAK") else 400
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
DTYPES = [*INTEGERS, *FLOATS, "bool", "string"]
SHAPES = [
    *([None], [None, 2], [None, None], [None, 2, 2], [None, None, 3], [None, 1, 1, 2]),
    *([1], [1, 2], None, [2, 2], []),
]
EDGES = [0, 1, -1, 2, 127, 128, -128, -129, 255, 256, 300, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31]
EDGES += [-(2**31) - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**30]
EDGES += [0.0, -0.0, 1.0, 255.0, 256.0, 1.5, -0.5, 0.1, 1e-45, 65504.0, 65520.0, 3.4e38, 3.5e38, 1e39, 1e300]
EDGES += [2.0**53, 2.0**63, 2.0**64, math.nan, math.inf, -math.inf, True, False]
ODD = [
    None,
    "",
    "7",
    "é",
    "\ud800",
    "a\x00",
    "日本",
    {},
    {"b64": "AP8="},
    {"b64": "A P8="},
    {"x": 1},
    [[]],
    [1, [2]],
]


class Refused(Exception):
    """The oracle takes no such value."""


def exact_text(value: object) -> bytes:
    if isinstance(value, dict) and value.keys() == {"b64"} and " " not in value["b64"]:
        return base64_bytes(value["b64"])
    if not isinstance(value, str) or any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise Refused
    return value.encode()


def exact_integer(value: float, limits: np.iinfo) -> int:
    if not math.isfinite(value) or value != int(value) or not limits.min <= int(value) <= limits.max:
        raise Refused
    return int(value)


def exact(value: object, dtype: str) -> object:
    """The value as an element of a tensor."""
    if dtype == "string":
        return exact_text(value)
    if isinstance(value, str | dict | list) or value is None:
        raise Refused
    if dtype == "bool":
        if value not in (0, 1):
            raise Refused
        return bool(value)
    if dtype in INTEGERS:
        return exact_integer(value, np.iinfo(dtype))
    number = float(value)
    with np.errstate(over="ignore"):
        if math.isfinite(number) and np.isinf(np.asarray(number).astype(tf.as_dtype(dtype).as_numpy_dtype)):
            raise Refused
    return number


def exact_tree(value: object, dtype: str, shape: list | None) -> object:
    if isinstance(value, list) and (shape is None or shape):
        inner = None if shape is None else shape[1:]
        if shape and shape[0] is not None and len(value) != shape[0]:
            raise Refused
        return [exact_tree(item, dtype, inner) for item in value]
    if shape:
        raise Refused
    return exact(value, dtype)


def tree_shape(value: object) -> tuple:
    if not isinstance(value, list):
        return ()
    shapes = {tree_shape(item) for item in value}
    if len(shapes) > 1:
        raise Refused
    return (len(value), *(shapes.pop() if shapes else ()))


def expected_column(values: list, dtype: str, shape: list | None) -> list:
    """The column as exact values.

    Raises:
        Refused: with the numbers of the instances that may be named.
    """
    bad, taken = set(), []
    for number, value in enumerate(values):
        try:
            if shape is not None and (not shape or len(tree_shape(value)) != len(shape) - 1):
                raise Refused  # without a batch, or an empty list where lists of lists belong
            item = exact_tree(value, dtype, None if shape is None else shape[1:])
            taken.append((number, tree_shape(item), item))
        except Refused:
            bad.add(number)
    if len({each[1] for each in taken}) > 1:
        bad |= {each[0] for each in taken}
    if bad:
        raise Refused(bad)
    return [item for _, _, item in taken]


@pytest.fixture(scope="module")
def graph():
    """A graph with an identity for each type and shape, and its session."""
    tensors = {}
    with tf.Graph().as_default() as graph:
        for dtype in DTYPES:
            for number, shape in enumerate(SHAPES):
                source = tf.compat.v1.placeholder(dtype, shape)
                info = tf.compat.v1.saved_model.build_tensor_info
                tensors[dtype, number] = (info(source), info(tf.identity(source)))
    session = tf.compat.v1.Session(graph=graph)
    yield session, tensors
    session.close()


def make_value(rng: random.Random, dtype: str, shape: list | None) -> object:
    """A value that mostly fits."""
    if rng.random() < 0.02:
        return rng.choice(ODD)
    sizes = [rng.randint(0, 2)] * rng.randint(0, 2) if shape is None else shape[1:]
    if not sizes:
        return make_scalar(rng, dtype)
    size = rng.randint(0, 3) if sizes[0] is None or rng.random() < 0.02 else sizes[0]
    return [make_value(rng, dtype, [None, *sizes[1:]]) for _ in range(size)]


def make_scalar(rng: random.Random, dtype: str) -> object:
    if dtype == "string":
        return rng.choice(["", "a", "日本", "a\x00b\x00", {"b64": "AP8="}])
    if rng.random() < 0.1:
        return rng.choice(EDGES)
    if dtype == "bool":
        return rng.choice([True, False, 0, 1, 1.0])
    if dtype in INTEGERS:
        limits = np.iinfo(dtype)
        number = rng.choice(
            [rng.randint(0, 100), rng.randint(limits.min, limits.max), limits.min, limits.max]
        )
        return float(number) if rng.random() < 0.1 and float(number) == number else number
    return rng.choice([rng.uniform(-10, 10), rng.randint(-300, 300), rng.gauss(0, 1e4)])


def as_json(dtype: str, values: list) -> list:
    """What TensorFlow itself makes of the values, as the worker writes it."""
    array = tf.constant(values, dtype).numpy()
    array = array.astype(np.float32) if dtype == "bfloat16" else array
    return array.tolist()


def same(got: object, want: object) -> bool:
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(map(same, got, want))
    if isinstance(want, bytes):
        return got["b64"] is not None and base64_bytes(got["b64"]) == want
    if isinstance(want, float) and not math.isfinite(want):
        return got == ("NaN" if math.isnan(want) else "Infinity" if want > 0 else "-Infinity")
    return type(got) is type(want) and got == want


@pytest.mark.parametrize("part", range(4))
def test_an_answer_is_tensorflows_own_or_an_error_that_names_instance_and_input(graph, part):
    session, tensors = graph
    rng, replies, answered = random.Random(20 + part), queue.SimpleQueue(), 0
    for _ in range(COUNT // 4):
        chosen = rng.sample(sorted(tensors), rng.randint(1, 3))
        names = [f"in_{number}" for number in range(len(chosen))]
        pairs = dict(zip(names, (tensors[each] for each in chosen), strict=True))
        signature = tf.compat.v1.saved_model.build_signature_def(
            {name: source for name, (source, _) in pairs.items()},
            {f"{name}_bytes": output for name, (_, output) in pairs.items()},
            "tensorflow/serving/predict",
        )
        model = LoadedModel({"s": GraphSignature(session, signature)}, WorkerLimits())
        worker = SerialWorker(model, WorkerLimits(), lambda _, reply: replies.put(reply))
        specs = {name: (dtype, SHAPES[number]) for name, (dtype, number) in zip(names, chosen, strict=True)}
        count = rng.choice([1, 1, 2, 3])
        columns = {name: [make_value(rng, *spec) for _ in range(count)] for name, spec in specs.items()}
        instances = [{name: columns[name][row] for name in names} for row in range(count)]
        if len(names) == 1 and not isinstance(instances[0][names[0]], dict) and rng.random() < 0.5:
            instances = [instance[names[0]] for instance in instances]
        body = json.dumps({"instances": instances, "signature_name": "s"}).encode()
        worker.accept(1, WorkerRequest(kind=RequestKind.ONLINE, payload=body))
        reply = replies.get(timeout=60)
        assert reply.error is None, (body, reply.error)
        answered += check(json.loads(reply.payload), columns, specs, count, body)
    assert answered > COUNT // 4 // 10  # most of them are not refused for one odd value


def check(answer: dict, columns: dict, specs: dict, count: int, body: bytes) -> bool:
    """Check one answer; return True if it has predictions."""
    bad, taken = {}, {}
    for name, (dtype, shape) in specs.items():
        try:
            taken[name] = expected_column(columns[name], dtype, shape)
        except Refused as refused:
            bad[name] = refused.args[0]
    fixed = {shape[0] for _, shape in specs.values() if shape} - {None}
    if bad or len(fixed) > 1 or any(count % size for size in fixed):
        text = answer["error"]
        is_named = any(
            f"instance {number}" in text.lower() and name in text for name in bad for number in bad[name]
        )
        assert is_named or "instances at a time" in text, (body, answer)
        return False
    assert "predictions" in answer, (body, answer)
    for name, values in taken.items():
        want = as_json(specs[name][0], values)
        got = [row[f"{name}_bytes"] for row in answer["predictions"]]
        assert same(got, want), (body, name, got, want)
    return True
