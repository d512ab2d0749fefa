"""Models that other people export, in every format that a version may have."""

from __future__ import annotations

import base64
import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from pipeline.engine.serving.artifacts import runtime_of
from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.model import LoadedModel
from pipeline.engine.serving.model_ops import RefusedOperation
from pipeline.engine.serving.worker import LOADERS
from pipeline.keras_archive import RefusedLayer

v1 = tf.compat.v1
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras


def load(directory: Path) -> LoadedModel:
    model = LOADERS[runtime_of(directory)](directory, WorkerLimits())
    model.warm_up()
    return model


def save_graph(directory: Path, *tag_sets: list[str], as_text: bool = False, op: str = "") -> Path:
    """A graph of TensorFlow 1 with a variable and a table that is filled from a file."""
    vocabulary = directory.with_suffix(".txt")
    vocabulary.write_text("odd\neven\n")
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        word = v1.placeholder(tf.string, [None], "word")
        weights = v1.get_variable("w", [3], initializer=v1.ones_initializer(), use_resource=False)
        keys = tf.lookup.TextFileInitializer(str(vocabulary), tf.string, 0, tf.int64, -1)
        table = tf.lookup.StaticHashTable(keys, -1)
        text = tf.map_fn(tf.io.read_file, word) if op else word
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.build_tensor_info
        inputs = {"x": info(x), "word": info(word)}
        outputs = {"y": info(x * weights), "number": info(table.lookup(text))}
        signature = v1.saved_model.build_signature_def(inputs, outputs, "tensorflow/serving/predict")
        builder = v1.saved_model.Builder(str(directory))
        signatures = {"serving_default": signature}
        assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
        main_op = v1.tables_initializer()
        builder.add_meta_graph_and_variables(
            session, tag_sets[0], signatures, assets_collection=assets, main_op=main_op
        )
        v1.get_default_graph().clear_collection("saved_model_main_op")
        for tags in tag_sets[1:]:
            builder.add_meta_graph(tags, signatures, assets_collection=assets)
        builder.save(as_text=as_text)
    vocabulary.unlink()  # what is served is the copy among the assets
    return directory


class TestSavedModels:
    @pytest.mark.parametrize(
        ("tag_sets", "as_text"),
        [
            ([["serve"]], False),
            ([["serve"]], True),
            ([["serve"], ["serve", "tpu"]], False),
            ([["serve"], ["train"], ["serve", "gpu"]], False),
        ],
    )
    def test_the_graph_tagged_serve_is_served_whatever_else_there_is(self, tmp_path, tag_sets, as_text):
        model = load(save_graph(tmp_path / "model", *tag_sets, as_text=as_text))
        instances = [{"x": [1, 2, 3], "word": "even"}, {"x": [0, 0, 1.5], "word": "?"}]
        assert model.predict(instances, "serving_default") == [
            {"y": [1.0, 2.0, 3.0], "number": 1},
            {"y": [0.0, 0.0, 1.5], "number": -1},
        ]

    def test_without_a_graph_tagged_serve_the_tag_sets_are_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"its tag sets are \['serve', 'tpu'\], \['train'\]"):
            load(save_graph(tmp_path / "model", ["serve", "tpu"], ["train"]))

    @pytest.mark.parametrize("as_text", [False, True])
    def test_a_graph_that_reads_files_is_refused_in_either_spelling(self, tmp_path, as_text):
        with pytest.raises(RefusedOperation, match="serving_default reaches the operation ReadFile"):
            load(save_graph(tmp_path / "model", ["serve"], as_text=as_text, op="ReadFile"))

    def test_what_only_the_graph_for_training_does_is_not_refused(self, tmp_path):
        directory = save_graph(tmp_path / "model", ["serve"], ["train"])
        path = directory / "saved_model.pb"
        saved = SavedModel.FromString(path.read_bytes())
        training = next(meta for meta in saved.meta_graphs if "train" in meta.meta_info_def.tags)
        training.graph_def.node.add(name="file", op="ReadFile", input=["word"])
        training.signature_def["serving_default"].outputs["number"].name = "file:0"
        path.write_bytes(saved.SerializeToString())
        assert load(directory).predict([{"x": [1, 1, 1], "word": "odd"}], "serving_default")[0]["number"] == 0

    def test_the_optimizer_of_keras_2_beside_the_graph_is_not_read(self, tmp_path):
        class Model(tf.Module):
            def __init__(self) -> None:
                self.kernel, self.momentum = tf.Variable([2.0]), tf.Variable([0.0])
                self.optimizer = tf.Module()

            @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
            def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
                return {"y": x * self.kernel}

        model = Model()
        tf.saved_model.save(model, str(tmp_path), signatures=model.serve)
        path = tmp_path / "saved_model.pb"
        saved = SavedModel.FromString(path.read_bytes())
        nodes = saved.meta_graphs[0].object_graph_def.nodes
        children = {child.local_name: child.node_id for child in nodes[0].children}
        nodes[children["optimizer"]].slot_variables.add(
            original_variable_node_id=children["kernel"],
            slot_name="m",
            slot_variable_node_id=children["momentum"],
        )
        path.write_bytes(saved.SerializeToString())
        with pytest.raises(AttributeError, match="add_slot"):
            tf.saved_model.load(str(tmp_path))
        assert load(tmp_path).predict([[3]], "serving_default") == [{"y": [6.0]}]

    def test_a_model_of_keras_3_whose_signature_is_a_function_of_its_own_has_its_variables(self, tmp_path):
        inputs = keras.Input((3,))
        model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(inputs))

        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="values")])
        def serve(values):
            return {"outputs": model(values)}

        tf.saved_model.save(model, str(tmp_path), signatures=serve)
        values = [[0.1, 0.2, 0.3]]
        [answer] = load(tmp_path).predict([{"values": values[0]}], "serving_default")
        assert answer["outputs"] == pytest.approx(model(np.float32(values)).numpy()[0].tolist(), abs=1e-6)

    def test_a_model_without_a_signature_is_refused(self, tmp_path):
        tf.saved_model.save(tf.Module(), str(tmp_path))
        with pytest.raises(ValueError, match="the model has no signature"):
            load(tmp_path)

    def test_the_instance_that_the_graph_refuses_is_named_without_the_graph(self, tmp_path):
        class Model(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="data")])
            def serve(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
                heights = tf.map_fn(
                    lambda each: tf.shape(tf.io.decode_png(each))[0], data, fn_output_signature=tf.int32
                )
                return {"height": heights}

        model = Model()
        tf.saved_model.save(model, str(tmp_path), signatures=model.serve)
        png = base64.b64encode(tf.io.encode_png(tf.zeros([2, 2, 3], tf.uint8)).numpy()).decode()
        loaded, good = load(tmp_path), {"b64": png}
        assert loaded.predict([good], "serving_default") == [{"height": 2}]
        for place in range(5):
            instances = [good] * place + [{"b64": "YQ=="}] + [good] * (4 - place)
            with pytest.raises(PredictionFailed, match=rf"\(instance {place}, input data\)") as caught:
                loaded.predict(instances, "serving_default")
            assert "\n" not in caught.value.message
            assert "{{node" not in caught.value.message


class TestKerasFiles:
    def test_inputs_and_outputs_have_their_names(self, tmp_path):
        a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b", dtype="int32")
        total = keras.layers.Dense(1, kernel_initializer="ones")(a)
        keras.Model({"a": a, "b": b}, {"total": total, "same": b}).save(tmp_path / "model.keras")
        model = load(tmp_path)
        assert model.predict([{"a": [1, 2], "b": [7]}], "serving_default") == [{"total": [3.0], "same": [7]}]
        with pytest.raises(PredictionFailed, match=r"\(instance 0, input b\)"):
            model.predict([{"a": [1, 2], "b": [1.5]}], "serving_default")

    def test_a_lambda_is_refused_by_name(self, tmp_path):
        x = keras.Input((2,))
        keras.Model(x, keras.layers.Lambda(lambda y: y + 1)(x)).save(tmp_path / "model.keras")
        with pytest.raises(RefusedLayer, match="Lambda runs a program of its own"):
            load(tmp_path)

    def test_a_custom_layer_is_refused_by_name(self, tmp_path):
        @keras.saving.register_keras_serializable("theirs")
        class Doubling(keras.layers.Layer):
            def call(self, x: tf.Tensor) -> tf.Tensor:
                return 2 * x

        x = keras.Input((2,))
        keras.Model(x, Doubling()(x)).save(tmp_path / "model.keras")
        with pytest.raises(RefusedLayer, match="Doubling"):
            load(tmp_path)


def test_a_tflite_file_has_the_signatures_of_its_export(tmp_path):
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x * 2.0}

    model = Model()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([model.serve.get_concrete_function()], model)
    (tmp_path / "net.tflite").write_bytes(converter.convert())
    loaded = load(tmp_path)
    assert loaded.predict([[1, 2], [3, 4]], "serving_default") == [{"y": [2.0, 4.0]}, {"y": [6.0, 8.0]}]
    with pytest.raises(PredictionFailed, match=r"expected the shape \(2\).*\(instance 0, input x\)"):
        loaded.predict([[1]], "serving_default")


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer; short ones are all that is needed here."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def onnx_value(name: bytes) -> bytes:
    sizes = field(1, field(2, b"n")) + field(1, field(1, 2))
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sizes)))


@pytest.fixture
def onnx_runtime(tmp_path_factory, monkeypatch):
    """ONNX Runtime, which is an extra: installed for the test where it is not."""
    if importlib.util.find_spec("onnxruntime") is None:
        folder = tmp_path_factory.mktemp("onnx")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, "onnxruntime==1.32.0"], check=True, timeout=300)
        monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("onnx_runtime")
def test_an_onnx_file_is_served(tmp_path):
    add = field(1, b"x") + field(1, b"c") + field(2, b"y") + field(4, b"Add")
    constant = field(1, 1) + field(2, 1) + field(8, b"c") + field(9, struct.pack("<f", 0.5))
    graph = field(1, add) + field(2, b"g") + field(5, constant)
    graph += field(11, onnx_value(b"x")) + field(12, onnx_value(b"y"))
    (tmp_path / "net.onnx").write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    model = load(tmp_path)
    assert model.predict([[1, 2], {"x": [3, 4]}], "serving_default") == [{"y": [1.5, 2.5]}, {"y": [3.5, 4.5]}]
    with pytest.raises(PredictionFailed, match=r"expected float32. Received: 'a' \(instance 0, input x\)"):
        model.predict([["a", 1]], "serving_default")


def test_an_onnx_file_without_its_runtime_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install 'graft\[onnx\]'"):
        load(tmp_path)


def test_a_batch_of_one_runs_once_for_each_instance(tmp_path):
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 2], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": tf.reduce_sum(x, 1)}

    model = Model()
    tf.saved_model.save(model, str(tmp_path), signatures=model.serve)
    rows = load(tmp_path).predict(np.arange(6).reshape(3, 2).tolist(), "serving_default")
    assert rows == [{"y": 1.0}, {"y": 5.0}, {"y": 9.0}]
