"""A SavedModel of any TensorFlow: the graph of its MetaGraph tagged `serve`, run by a session, as v1 ran it.

The objects that Keras keeps beside the graph are not read. TensorFlow 2 cannot restore those of Keras 2, and
no prediction needs them.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.model import LoadedModel, Signature
from pipeline.engine.serving.model_ops import LOAD_SIGNATURES, SERVE, check_model_ops
from pipeline.engine.serving.tensors import STRING, Array, InputSpec, Shape
from pipeline.tflite.manifest import is_graft_model

log = logging.getLogger(__name__)

Session: TypeAlias = "tf.compat.v1.Session"
Objects: TypeAlias = "tf.Module"

# The lines of TensorFlow's errors that say where in which graph, and the marks before those that say what.
NOISE = re.compile(
    r"^(Graph execution error|Detected at|Node:|<stack traces|Original stack|Errors may have|"
    r"Operation defined|\d+ (successful|derived|root)|\[\[|File |  |$)"
)
MARKS = re.compile(r"^\(\d+\) [A-Z_]+: |\{\{[^{}]*\}\} ?|\[Op:[^\]]*\]")
NUMBERS = re.compile(r"\[[-+\d.eE, \n]{40,}\.*\]?")
MAX_REASON = 300


def load_saved_model(directory: Path, limits: WorkerLimits) -> LoadedModel:
    """Check and load a SavedModel.

    Args:
        directory: The directory of `saved_model.pb` or `saved_model.pbtxt`; `graft/labels.json` in it makes
            the model one of ours.
        limits: The limits of its images, and the operations that it may use.

    Raises:
        RefusedOperation: if it uses an operation that is not allowed.
        ValueError: if no MetaGraph is tagged `serve`, or it has no signature.
    """
    started = time.perf_counter()
    check_model_ops(directory, limits.allowed_ops.replace(",", " ").split())
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta = tf.compat.v1.saved_model.load(session, [SERVE], str(directory))
    definitions = {name: each for name, each in meta.signature_def.items() if name not in LOAD_SIGNATURES}
    signatures: dict[str, Signature] = {
        name: GraphSignature(session, each) for name, each in definitions.items()
    }
    if not _is_restored(session):
        signatures = _load_objects(directory, signatures)
    log.info("Loaded %s in %.2f s.", sorted(signatures), time.perf_counter() - started)
    return LoadedModel(signatures, limits, is_ours=is_graft_model(directory))


def _is_restored(session: Session) -> bool:
    """Return whether every variable of the graph has a value.

    `tf.saved_model.save` of a model of Keras 3 stores its variables under the names of copies: only the
    objects beside the graph tell which belongs to which.
    """
    with session.graph.as_default():
        handles = [op.outputs[0] for op in session.graph.get_operations() if op.type == "VarHandleOp"]
        used = [handle for handle in handles if handle.consumers()]
        states = [tf.raw_ops.VarIsInitializedOp(resource=handle) for handle in used]
    return all(session.run(states))


def _load_objects(directory: Path, signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """Return the signatures with the objects of the model; those of its graph where it has none to load."""
    try:
        objects = tf.saved_model.load(str(directory), tags=[SERVE])
    except Exception as error:  # of Keras 2, or of no Keras: what the graph needs may have its values
        log.warning("Some variables have no value, and the model's objects cannot be loaded: %s", error)
        return dict(signatures)
    return {name: ObjectSignature(objects, name, each.inputs) for name, each in signatures.items()}


class ObjectSignature:
    """One signature of a model that is loaded with its objects.

    Args:
        objects: What was loaded; it keeps the variables alive.
        name: The signature's name.
        inputs: Its inputs.
    """

    def __init__(self, objects: Objects, name: str, inputs: Sequence[InputSpec]) -> None:
        self._objects = objects
        self._function = objects.signatures[name]
        self.inputs = inputs

    def run(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs by their aliases."""
        try:
            outputs = self._function(**{alias: tf.constant(array) for alias, array in arrays.items()})
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise PredictionFailed(reason(error)) from error
        return {alias: value.numpy() for alias, value in outputs.items()}


class GraphSignature:
    """One signature of a graph.

    Args:
        session: Holds the graph and its variables.
        signature: Its inputs and outputs.
    """

    def __init__(self, session: Session, signature: SignatureDef) -> None:
        self._session = session
        self._placeholders = {alias: info.name for alias, info in signature.inputs.items()}
        self._fetches = {alias: info.name for alias, info in signature.outputs.items()}
        self.inputs = [_input_spec(alias, info) for alias, info in sorted(signature.inputs.items())]

    def run(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs by their aliases."""
        if sparse := [alias for alias, tensor in self._fetches.items() if not tensor]:
            raise PredictionFailed(f"Output {sparse[0]} is sparse or ragged, which v1's JSON has not")
        feeds = {self._placeholders[alias]: array for alias, array in arrays.items()}
        try:
            outputs = self._session.run(self._fetches, feeds)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise PredictionFailed(reason(error)) from error
        return {alias: np.asarray(value) for alias, value in outputs.items()}


def _input_spec(alias: str, info: TensorInfo) -> InputSpec:
    if not info.name:
        return InputSpec(name=alias, dtype="sparse", shape=None)
    shape: Shape | None = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
    dtype = tf.as_dtype(info.dtype)
    return InputSpec(name=alias, dtype=STRING if dtype == tf.string else dtype.name, shape=shape)


def reason(error: Exception) -> str:
    """Return what TensorFlow says of a failure, without its graph, its stack traces and its arrays."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    lines = [
        line for line in (text or type(error).__name__).splitlines() if not NOISE.match(line.strip("\t"))
    ]
    line = NUMBERS.sub("[...]", MARKS.sub("", lines[0].strip() if lines else type(error).__name__)).strip()
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}..."
