"""What a picture costs in each runtime, and in eight bits: `python -m benchmarks runtimes`.

One thread for each; CPU seconds are what counts, so a busy machine changes ratios little. All are asked by
turns. OpenVINO and ONNX Runtime are in it where they can be imported.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.jpeg_scaling import encode, read_photographs
from benchmarks.training import weights_of
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import Backbone, find_backbone
from pipeline.backbones.weights import read_weights
from pipeline.export.onnx_file import INPUT, build_onnx_file
from pipeline.pixels.host import decode_resized
from pipeline.storage import Storage
from pipeline.submission.staged_weights import stage_weights
from pipeline.tflite.head import Head
from pipeline.tflite.network import TFLiteNetwork
from pipeline.types import Float32Features, UInt8Images

Runtime = Callable[[UInt8Images], Float32Features]
BACKBONES = ("efficientnet_lite0", "inception_v3")
BATCHES = (1, 8, 32)
SIDES = (299, 384, 512, 640, 768)  # of the photographs that calibrate and are asked about
ROUNDS = 5
SECTION = """## Runtimes, and eight bits

Both backbones without their heads, one thread, {pictures} photographs; medians of {rounds} rounds by turns,
in CPU milliseconds a picture. *Eight bits, weights* quantizes the weights of convolutions and, as it runs,
what they are fed; *eight bits* is calibrated on the same photographs. *Off* is the largest
difference of a feature from TensorFlow's, as a share of the largest feature.

| backbone | runtime | batch 1 | batch 8 | batch 32 | of LiteRT, batch 8 | off |
|---|---|---|---|---|---|---|
{rows}

LiteRT stays (ADR 9), and versions are served in float32. Equal runtimes differ by less than they do from one
round to the next. Eight bits save a tenth of InceptionV3 and a fifth of EfficientNet-Lite0 on a processor
without instructions for them (AVX2), and answer by other features. Twice the plain server's throughput is
not to be had by either.
"""


def measure() -> str:
    """Return the section."""
    rows: list[str] = []
    for name in BACKBONES:
        backbone = find_backbone(name)
        pixels = read_pixels(backbone)
        runtimes = dict(load_runtimes(backbone, pixels))
        rows += compare(name, runtimes, pixels)
    return SECTION.format(rows="\n".join(rows), rounds=ROUNDS, pictures=len(pixels))


def read_pixels(backbone: Backbone) -> UInt8Images:
    """Return photographs as the backbone is fed them."""
    files = [encode(photograph, side) for photograph in read_photographs() for side in SIDES]
    return np.stack([decode_resized(file, backbone.spec) for file in files])


def compare(name: str, runtimes: dict[str, Runtime], pixels: UInt8Images) -> list[str]:
    """Return a row for each runtime."""
    expected = runtimes["TensorFlow"](pixels[:8])
    off = {each: _difference(run(pixels[:8]), expected) for each, run in runtimes.items()}
    costs = {batch: _time(runtimes, pixels[:batch]) for batch in BATCHES}
    rows = []
    for each in runtimes:
        taken = " | ".join(f"{costs[batch][each]:.1f}" for batch in BATCHES)
        ratio = costs[8][each] / costs[8]["LiteRT"]
        rows.append(f"| {name} | {each} | {taken} | {ratio:.2f} x | {off[each]:.0e} |")
    return rows


def _difference(features: Float32Features, expected: Float32Features) -> float:
    return float(np.abs(features - expected).max() / np.abs(expected).max())


def _time(runtimes: dict[str, Runtime], pixels: UInt8Images) -> dict[str, float]:
    """Return the median CPU milliseconds of a picture in each runtime."""
    taken: dict[str, list[float]] = {name: [] for name in runtimes}
    for run in runtimes.values():
        run(pixels)
    for _ in range(ROUNDS):
        for name, run in runtimes.items():
            began = time.process_time()
            run(pixels)
            taken[name].append((time.process_time() - began) / len(pixels) * 1000)
    return {name: statistics.median(values) for name, values in taken.items()}


def load_runtimes(backbone: Backbone, pixels: UInt8Images) -> Iterator[tuple[str, Runtime]]:
    """Yield each runtime that is here with the backbone loaded."""
    import tensorflow as tf

    from pipeline.backbones.networks.folded import build_mapped_network
    from pipeline.trainer.tflite_export import convert_network

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as temporary:
        storage = Storage({"graft": Path(temporary)})
        weights = weights_of(backbone.name, Path(temporary))
        staged = stage_weights(Workspace(storage, "gs://graft"), backbone, weights)
        network = build_mapped_network(
            backbone.name, read_weights(storage.local_path(staged.uri), backbone.name)
        )
    buffer = convert_network(network)
    yield "TensorFlow", lambda rows: network(rows)[0].numpy()
    yield "LiteRT", _litert(buffer)
    yield "LiteRT, eight bits, weights", _litert(_quantize(network, None))
    yield "LiteRT, eight bits", _litert(_quantize(network, pixels))
    zeros = partial(np.zeros, dtype=np.float32)
    head = Head(  # the file needs one: so small that it costs nothing
        hidden_kernel=zeros((backbone.feature_width, 1)),
        hidden_bias=zeros(1),
        output_kernel=zeros((1, 2)),
        output_bias=zeros(2),
    )
    model = onnx.load_from_string(build_onnx_file(buffer, head, ["a", "b"], backbone.spec))
    features = next(node.input[0] for node in model.graph.node if node.op_type == "Gemm")
    output = onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(output)
    yield "ONNX Runtime", _onnx_runtime(model.SerializeToString(), features)
    if find_spec("openvino"):
        yield "OpenVINO", _openvino(model.SerializeToString(), features)


def _quantize(network: Any, calibration: UInt8Images | None) -> bytes:
    """Return the flat buffer in eight bits; without pictures that calibrate it only its weights are."""
    import tensorflow as tf

    def rows() -> Iterator[list[UInt8Images]]:
        for number in range(len(calibration)):  # type: ignore[arg-type]
            yield [calibration[number : number + 1]]  # type: ignore[index]

    concrete = network.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.experimental_lower_to_saved_model = False
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibration is not None:
        converter.representative_dataset = rows
    return bytes(converter.convert())


def _litert(buffer: bytes) -> Runtime:
    network = TFLiteNetwork(buffer)
    return network.pool


def _onnx_runtime(model: bytes, output: str) -> Runtime:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda rows: np.asarray(session.run([output], {INPUT: rows})[0])


def _openvino(model: bytes, output: str) -> Runtime:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda rows: np.asarray(compiled({INPUT: rows})[output])
