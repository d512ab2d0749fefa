"""An `.onnx` file as a backbone: each operation against ONNX Runtime, whole networks, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from onnx import helper, numpy_helper

from pipeline.artifacts.network import NetworkRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.networks.frozen_graph import find_feature_map
from pipeline.backbones.networks.imported import ImportedNetwork, NetworkOptions
from pipeline.backbones.networks.onnx_graph.graph import OnnxGraph, needed_nodes
from pipeline.backbones.networks.onnx_graph.rewriting import fuse_gelu
from pipeline.backbones.networks.onnx_graph.shaping import choose_sizes
from pipeline.backbones.networks.onnx_graph.table import OPERATIONS
from pipeline.backbones.networks.onnx_graph.values import BATCH, Value
from pipeline.backbones.networks.onnx_import import import_onnx
from pipeline.config.network import NetworkConfig
from pipeline.errors import NetworkRefused
from pipeline.storage import Storage
from pipeline.submission import network_import, staged_network
from pipeline.submission.staged_network import check_file, stage_network
from tests.fakes.onnx_networks import OnnxBuilder, save_convolutional, save_transformer

PICTURE = (2, 8, 9, 7)  # channels first
ROW = (2, 5, 6)
I64 = np.int64
# Name, sizes of the first input, the other inputs, attributes, opset.
CASES: list[tuple[str, tuple[int, ...], list[Any], dict[str, Any], int]] = [
    ("Conv", PICTURE, [(4, 8, 3, 2)], {"strides": [2, 1], "pads": [1, 0, 1, 1]}, 17),
    ("Conv", PICTURE, [(8, 4, 3, 3), (8,)], {"group": 2, "dilations": [2, 1], "pads": [2, 1, 2, 1]}, 17),
    ("Conv", PICTURE, [(16, 1, 3, 3)], {"group": 8, "auto_pad": "SAME_LOWER", "strides": [2, 2]}, 17),
    ("MaxPool", PICTURE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, 17),
    ("MaxPool", PICTURE, [], {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}, 17),
    ("AveragePool", PICTURE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, 17),
    (
        "AveragePool",
        PICTURE,
        [],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "count_include_pad": 1},
        17,
    ),
    ("AveragePool", PICTURE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 17),
    ("GlobalAveragePool", PICTURE, [], {}, 17),
    ("GlobalMaxPool", PICTURE, [], {}, 17),
    ("LRN", PICTURE, [], {"size": 5}, 17),
    ("BatchNormalization", PICTURE, [(8,), (8,), (8,), np.arange(1, 9) / 4], {}, 17),
    ("InstanceNormalization", PICTURE, [(8,), (8,)], {}, 17),
    ("GroupNormalization", PICTURE, [(8,), (8,)], {"num_groups": 4}, 21),
    ("LayerNormalization", ROW, [(6,), (6,)], {"axis": -1}, 17),
    ("LayerNormalization", ROW, [(5, 6)], {"axis": 1, "epsilon": 0.01}, 17),
    ("LpNormalization", ROW, [], {"axis": -1}, 17),
    ("RMSNormalization", ROW, [(6,)], {}, 23),
    ("Gemm", (2, 6), [(4, 6), (4,)], {"transB": 1, "alpha": 0.5, "beta": 2.0}, 17),
    ("MatMul", ROW, [(6, 3)], {}, 17),
    ("Einsum", ROW, [(6, 3)], {"equation": "bij,jk->bik"}, 17),
    ("Softmax", ROW, [], {"axis": 1}, 17),
    ("LogSoftmax", ROW, [], {"axis": -1}, 17),
    ("ReduceMean", PICTURE, [], {"axes": [2, 3], "keepdims": 0}, 17),
    ("ReduceMean", PICTURE, [np.array([-1, -2], I64)], {}, 18),
    ("ReduceMax", ROW, [], {"axes": [1]}, 17),
    ("ReduceMin", ROW, [], {"axes": [1]}, 17),
    ("ReduceProd", ROW, [], {"axes": [2]}, 17),
    ("ReduceSum", ROW, [np.array([2], I64)], {"keepdims": 0}, 17),
    ("ReduceSumSquare", ROW, [], {"axes": [2]}, 17),
    ("ReduceL1", ROW, [], {"axes": [2]}, 17),
    ("ReduceL2", ROW, [], {"axes": [2]}, 17),
    ("Add", PICTURE, [(8, 1, 1)], {}, 17),
    ("Sub", PICTURE, [(1, 8, 9, 7)], {}, 17),
    ("Mul", PICTURE, [np.float32(3)], {}, 17),
    ("Div", PICTURE, [np.float32([2])], {}, 17),
    ("Pow", ROW, [np.float32(2)], {}, 17),
    ("Pow", ROW, [np.float32(3)], {}, 17),
    ("Max", ROW, [(6,), (5, 6)], {}, 17),
    ("Min", ROW, [(6,)], {}, 17),
    ("Sum", ROW, [(6,), (5, 6)], {}, 17),
    ("Mean", ROW, [(6,), (5, 6)], {}, 17),
    ("PRelu", PICTURE, [(8, 1, 1)], {}, 17),
    *[
        (name, PICTURE, [], {}, 17)
        for name in (
            *("Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity"),
            *("LeakyRelu", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin"),
            *("Softplus", "Softsign", "Tanh", "Dropout"),
        )
    ],
    ("Elu", ROW, [], {"alpha": 0.5}, 17),
    ("Mish", ROW, [], {}, 18),
    ("HardSigmoid", ROW, [], {"alpha": 1 / 6}, 17),
    ("Gelu", ROW, [], {}, 20),
    ("Gelu", ROW, [], {"approximate": "tanh"}, 20),
    ("Swish", ROW, [], {"alpha": 1.5}, 24),
    ("Clip", ROW, [np.float32(0), np.float32(6)], {}, 17),
    ("Clip", ROW, [np.float32(-0.5), None], {}, 17),
    ("Clip", ROW, [], {"min": 0.0, "max": 1.0}, 10),
    ("Reshape", PICTURE, [np.array([0, 4, -1], I64)], {}, 17),
    ("Flatten", PICTURE, [], {"axis": 2}, 17),
    ("Transpose", PICTURE, [], {"perm": [0, 2, 3, 1]}, 17),
    ("Transpose", PICTURE, [], {"perm": [0, 3, 1, 2]}, 17),
    ("Transpose", ROW, [], {}, 17),
    ("Squeeze", (2, 1, 6), [np.array([1], I64)], {}, 17),
    ("Unsqueeze", ROW, [np.array([-1, 1], I64)], {}, 17),
    ("Concat", PICTURE, [(2, 3, 9, 7)], {"axis": 1}, 17),
    ("Slice", PICTURE, [np.array(each, I64) for each in ([1, 99], [9, 0], [1, 3], [2, -2])], {}, 17),
    ("Gather", PICTURE, [np.array(-1, I64)], {"axis": 1}, 17),
    ("Gather", ROW, [np.array([[2, 0]], I64)], {"axis": 1}, 17),
    ("Split", PICTURE, [np.array([3, 5], I64)], {"axis": 1, "outputs": 2}, 17),
    ("Expand", (2, 1, 6), [np.array([1, 4, 6], I64)], {}, 17),
    ("Tile", ROW, [np.array([1, 2, 3], I64)], {}, 17),
    ("Pad", PICTURE, [np.array([0, 0, 1, 2, 0, 0, 3, 0], I64), np.float32(2)], {}, 17),
    ("Pad", ROW, [np.array([0, 1, 2, 0, 0, 1], I64)], {"mode": "reflect"}, 17),
    ("DepthToSpace", PICTURE, [], {"blocksize": 2}, 17),
    ("DepthToSpace", PICTURE, [], {"blocksize": 2, "mode": "CRD"}, 17),
    ("SpaceToDepth", (2, 3, 4, 6), [], {"blocksize": 2}, 17),
    ("Resize", PICTURE, [None, np.float32([1, 1, 2, 3])], {}, 17),
    ("Resize", PICTURE, [None, None, np.array([2, 8, 5, 11], I64)], {"mode": "linear"}, 17),
    (
        "Resize",
        PICTURE,
        [None, np.float32([1, 1, 2, 2])],
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        17,
    ),
    ("Upsample", PICTURE, [np.float32([1, 1, 2, 2])], {}, 9),
]
# Seen in whole networks or in the test of logic below.
ELSEWHERE = set("And Cast Constant ConstantOfShape Equal Greater GreaterOrEqual Less LessOrEqual Log".split())
ELSEWHERE |= set("Not Or Shape Sqrt Where".split())


def build(kind: str, others: list[Any], attributes: dict[str, Any], opset: int) -> tuple[Any, list[str]]:
    """Return a model of one operation and the names of its outputs."""
    random, names, constants = np.random.default_rng(3), ["x"], []
    for number, other in enumerate(others):
        if other is None:
            names.append("")
            continue
        array = random.normal(1, 0.5, other).astype(np.float32) if isinstance(other, tuple) else other
        array = array.astype(np.float32) if np.asarray(array).dtype == np.float64 else np.asarray(array)
        names.append(f"w{number}")
        constants.append(numpy_helper.from_array(array, names[-1]))
    outputs = [f"y{n}" for n in range(attributes.get("outputs", 1))]
    node = helper.make_node(kind, names, outputs, **{k: v for k, v in attributes.items() if k != "outputs"})
    pixels = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [node], "one", [pixels], [onnx.ValueInfoProto(name=n) for n in outputs], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), outputs


@pytest.mark.parametrize("is_last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(
    ("kind", "sizes", "others", "attributes", "opset"),
    CASES,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)],
)
def test_an_operation_is_that_of_onnx_runtime(
    kind: str,
    sizes: tuple[int, ...],
    others: list[Any],
    attributes: dict[str, Any],
    opset: int,
    is_last: bool,
) -> None:
    if is_last and len(sizes) != 4:
        return
    model, outputs = build(kind, others, attributes, opset)
    given = np.random.default_rng(4).normal(0.2, 2, sizes).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(outputs, {"x": given})
    value = Value(last=tf.constant(given.transpose(0, 2, 3, 1))) if is_last else Value(tf.constant(given))
    graph = OnnxGraph(model=model, is_single=False)
    graph.run("x", value, *outputs)
    for name, wanted in zip(outputs, expected, strict=True):
        found = graph.run("x", value, name)
        assert graph.sizes[name] == wanted.shape
        np.testing.assert_allclose(found.first(), wanted, rtol=2e-5, atol=2e-5)


def test_every_operation_of_the_table_is_tested() -> None:
    assert {case[0] for case in CASES} | ELSEWHERE == OPERATIONS.keys()


def test_logic_and_roots() -> None:
    builder = OnnxBuilder()
    half, add = builder.constant(0.5), builder.add
    positive = add("Greater", "pixels", half)
    small = add(
        "And", add("Not", add("Less", "pixels", half)), add("LessOrEqual", "pixels", builder.constant(2))
    )
    either = add("Or", add("GreaterOrEqual", "pixels", builder.constant(3)), add("Equal", "pixels", half))
    root = add("Log", add("Sqrt", add("Add", add("Abs", "pixels"), half)))
    chosen = add("Where", small, root, add("Cast", add("Where", positive, half, root), to=1))
    name = add("Where", either, half, chosen)
    model = onnx.load_from_string(_bytes(builder, name))
    graph, given = (
        OnnxGraph(model=model, is_single=False),
        np.linspace(-1, 4, 24, dtype=np.float32).reshape(2, 3, 2, 2),
    )
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run([name], {"pixels": given})[0]
    np.testing.assert_allclose(
        graph.run("pixels", Value(tf.constant(given)), name).first(), expected, atol=1e-6
    )


def _bytes(builder: OnnxBuilder, output: str) -> bytes:
    pixels = helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, None)
    results = [onnx.ValueInfoProto(name=output)]
    graph = helper.make_graph(builder.nodes, "logic", [pixels], results, builder.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("sizes", "wanted", "expected"),
    [
        ((BATCH, 8, 16), [1, -1, 8], (BATCH, 16, 8)),
        ((17, BATCH, 24), [17, 3, 8], (17, 3 * BATCH, 8)),
        ((3 * BATCH, 5), [1, 3, 5], (BATCH, 3, 5)),
        ((BATCH, 1, 4), [4], (4 * BATCH,)),
        ((50, BATCH, 24), [50, 24], (50 * BATCH, 24)),
        ((50 * BATCH, 72), [50, 1, 72], (50, BATCH, 72)),
        ((50, BATCH, 12, 64), [50, 768], (50 * BATCH, 768)),
        ((50, BATCH), [50], (50 * BATCH,)),
        ((12 * BATCH, 17, 64), [1, 12, 17, 64], (BATCH, 12, 17, 64)),
        ((5, BATCH, 4), [5, BATCH * 2, 2], (5, 2 * BATCH, 2)),
    ],
)
def test_sizes_written_for_one_picture_are_those_of_a_batch(
    sizes: tuple[int, ...], wanted: list[int], expected: tuple[int, ...]
) -> None:
    assert choose_sizes(sizes, wanted, is_single=True) == expected


def features_of(network: ImportedNetwork, count: int = 3) -> np.ndarray[Any, Any]:
    """Return what both programs make of noise, which must be the same."""
    shape = (count, network.height, network.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    features = network.function(tf.constant(pixels)).numpy()
    assert network.reference is not None
    assert np.ptp(features, 0).max() > 1e-3
    np.testing.assert_allclose(features, network.reference(pixels), rtol=1e-4, atol=1e-5)
    return np.asarray(features)


class TestWhatIsFound:
    @pytest.mark.parametrize("softmax", [False, True])
    def test_the_features_of_a_classifier_are_what_its_classes_are_fed(
        self, tmp_path: Path, softmax: bool
    ) -> None:
        path = save_convolutional(tmp_path / "n.onnx", classes=7, softmax=softmax)
        network = import_onnx(path, NetworkOptions(scaling="imagenet"))
        assert (network.output, network.height, network.width) == ("flat", 32, 32)
        assert features_of(network).shape == (3, 32)
        assert find_feature_map(network.function.outputs[0]) is not None

    def test_a_named_tensor_or_operation_gives_the_features(self, tmp_path: Path) -> None:
        path = save_convolutional(tmp_path / "n.onnx", classes=7, softmax=True)
        network = import_onnx(path, NetworkOptions(scaling="unit", output="logits"))
        assert (network.output, features_of(network).shape) == ("logits", (3, 7))

    @pytest.mark.parametrize("is_single", [False, True])
    def test_a_transformer_answers_batches_of_any_length(self, tmp_path: Path, is_single: bool) -> None:
        path = save_transformer(tmp_path / "n.onnx", is_single=is_single)
        network = import_onnx(path, NetworkOptions(scaling="symmetric"))
        assert network.output == "class_token"
        assert [features_of(network, count).shape for count in (2, 5)] == [(2, 24), (5, 24)]
        assert not find_feature_map(network.function.outputs[0])

    def test_gelu_that_is_written_out_is_found(self, tmp_path: Path) -> None:
        graph = onnx.load(save_transformer(tmp_path / "n.onnx")).graph
        assert fuse_gelu(graph) == 1
        assert "Gelu" in {node.op_type for node in needed_nodes(graph, "class_token")}
        assert "Erf" not in {node.op_type for node in needed_nodes(graph, "class_token")}

    def test_open_sizes_are_named(self, tmp_path: Path) -> None:
        path = save_convolutional(tmp_path / "n.onnx", shape=("n", 3, "h", "w"))
        network = import_onnx(path, NetworkOptions(scaling="unit", size=(24, 40)))
        assert (network.height, network.width, features_of(network).shape) == (24, 40, (3, 32))

    def test_bytes_with_the_channels_last_need_no_scaling(self, tmp_path: Path) -> None:
        builder, random = OnnxBuilder(), np.random.default_rng(0)
        scaled = builder.add("Div", builder.add("Cast", "pixels", to=1), builder.constant(64))
        first = builder.add("Transpose", scaled, perm=[0, 3, 1, 2])
        kernel = builder.constant(random.normal(0, 1, (6, 3, 4, 4)))
        mean = builder.add("ReduceMean", builder.add("Conv", first, kernel, strides=[4, 4]), axes=[2, 3])
        path = builder.save(
            tmp_path / "n.onnx", mean, shape=("n", 16, 16, 3), kind=onnx.TensorProto.UINT8, rank=4
        )
        assert features_of(import_onnx(path, NetworkOptions())).shape == (3, 6)
        with pytest.raises(NetworkRefused, match="its input is uint8, so it scales its pixels itself"):
            import_onnx(path, NetworkOptions(scaling="unit"))

    @pytest.mark.parametrize(("divisor", "expected"), [(255.0, "levels"), (0.229, "unit")])
    def test_a_graph_that_scales_tells_its_pixels(
        self, tmp_path: Path, divisor: float, expected: str
    ) -> None:
        builder = OnnxBuilder()
        value = builder.add("Div", "pixels", builder.constant(np.full((1, 3, 1, 1), divisor)))
        value = builder.add("Relu", builder.add("Sub", value, builder.constant(0.5)))
        path = builder.save(
            tmp_path / "n.onnx", builder.add("Flatten", builder.add("GlobalAveragePool", value))
        )
        found, named = (
            import_onnx(path, options) for options in (NetworkOptions(), NetworkOptions(scaling=expected))
        )
        np.testing.assert_array_equal(features_of(found), features_of(named))


def save_outputs(path: Path) -> Path:
    builder = OnnxBuilder()
    flat = builder.add("Flatten", builder.add("GlobalAveragePool", "pixels"), name="left")
    return builder.save(path, [flat, builder.add("Neg", flat, name="right")])


def save_foreign(path: Path, kind: str = "FusedConv", domain: str = "com.microsoft") -> Path:
    builder = OnnxBuilder()
    builder.add(kind, "pixels", name="odd", domain=domain)
    return builder.save(path, "odd", rank=4)


def save_external(path: Path) -> Path:
    model = onnx.load(save_convolutional(path))
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def save_halved(path: Path) -> Path:
    whole = save_convolutional(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def save_double(path: Path) -> Path:
    builder = OnnxBuilder()
    weight = builder.constant(np.ones((4, 3, 1, 1)), np.float16)
    return builder.save(path, builder.add("Conv", "pixels", weight), kind=onnx.TensorProto.FLOAT16, rank=4)


class TestRefusal:
    @pytest.mark.parametrize(
        ("save", "options", "message"),
        [
            (save_halved, {}, "it is truncated, or no `.onnx` file: .* Copy it again"),
            (save_external, {}, r"its weights \('w0'\) are in 'weights.bin'. Save it as one file"),
            (
                save_foreign,
                {},
                r"FusedConv \(odd\) is of the domain 'com.microsoft', which is not part of ONNX",
            ),
            (
                lambda path: save_foreign(path, "Hardmax", ""),
                {},
                r"its operation Hardmax \(odd\) cannot be conv",
            ),
            (save_double, {}, "its input is float16; export the network in float32"),
            (save_outputs, {}, "it has 2 outputs; set `output` to one of: left, right"),
            (save_outputs, {"output": "none"}, "no tensor or operation 'none'; set `output` .*, left, right"),
            (lambda path: save_convolutional(path, pools=False), {}, r"'gate' is \(batch, 32, 8, 8\)"),
            (lambda path: save_transformer(path, pools=False), {}, r"is \(batch, 17, 24\), and features are"),
            (lambda path: save_convolutional(path, channels=1, shape=("n", 1, 32, 32)), {}, "has 1 channels"),
            (lambda path: save_convolutional(path, shape=(4, 3, 32, 32)), {}, "takes 4 pictures at a time"),
            (lambda path: save_convolutional(path, shape=("n", 3, "h", "w")), {}, "set `image_size`"),
            (save_convolutional, {"size": (64, 64)}, "its input is 32 x 32 pixels. Remove `image_size`"),
            (save_convolutional, {"scaling": ""}, "Set `scaling` to what it was trained on"),
            (lambda path: save_convolutional(path, opset=6), {}, "opset 6; at least 7 is read"),
        ],
    )
    def test_names_what_to_change(self, tmp_path: Path, save: Any, options: Any, message: str) -> None:
        with pytest.raises(NetworkRefused, match=message):
            import_onnx(save(tmp_path / "n.onnx"), NetworkOptions(**{"scaling": "unit", **options}))

    def test_doctor_looks_at_the_file_without_tensorflow(self, tmp_path: Path) -> None:
        storage = Storage({"graft": tmp_path / "bucket"})
        check_file(storage, NetworkConfig(onnx=str(save_convolutional(tmp_path / "good.onnx"))))
        with pytest.raises(NetworkRefused, match=r"half.onnx cannot be a backbone: it is truncated"):
            check_file(storage, NetworkConfig(onnx=str(save_halved(tmp_path / "half.onnx"))))
        with pytest.raises(NetworkRefused, match=r"none.onnx cannot be a backbone: it cannot be read"):
            check_file(storage, NetworkConfig(onnx=str(tmp_path / "none.onnx")))

    def test_a_missing_library_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipeline.onnx_archive.find_spec", lambda name: None)
        with pytest.raises(NetworkRefused, match=r"reading it needs onnx and onnxruntime.*graft\[onnx\]"):
            import_onnx(save_convolutional(tmp_path / "n.onnx"), NetworkOptions())


def test_a_file_is_staged_with_its_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, network_import.main(Path(command[-1])), "", "")

    monkeypatch.setattr(staged_network.subprocess, "run", run)
    workspace = Workspace(Storage({"graft": tmp_path / "bucket"}), "gs://graft")
    path = save_transformer(tmp_path / "net.onnx")
    staged = stage_network(workspace, NetworkConfig(onnx=str(path), scaling="symmetric"))
    record = NetworkRecord.read(workspace, staged.weights.digest)
    assert (record.name, record.output, record.feature_width) == ("net.onnx", "class_token", 24)
    assert (record.has_map, staged.backbone.spec.height) == (False, 32)
    assert record.largest_difference < 1e-5
