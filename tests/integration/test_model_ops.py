"""Models that touch files: which of them the engine refuses, and with which words."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.sandbox.sandbox import Sandbox
from tests.integration.engine_process import EngineProcess

BUILD = """
import sys, tensorflow as tf
from pathlib import Path

root = Path(sys.argv[1])
TEXT = [tf.TensorSpec([None], tf.string, name="inputs")]

class Model(tf.Module):
    def __init__(self):
        vocabulary = root / "words.txt"
        vocabulary.parent.mkdir(parents=True, exist_ok=True)
        vocabulary.write_text("odd\\neven\\n")
        keys = tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
        self.table = tf.lookup.StaticHashTable(keys, -1)
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=TEXT)
    def tame(self, inputs):
        return {"outputs": tf.cast(self.table.lookup(inputs), tf.float32) * self.factor}

    @tf.function(input_signature=TEXT)
    def read(self, inputs):
        return {"outputs": tf.map_fn(tf.io.read_file, inputs)}

    @tf.function(input_signature=TEXT)
    def write(self, inputs):
        tf.io.write_file("/tmp/written-by-a-model", "x")
        return {"outputs": tf.identity(inputs)}

    @tf.function(input_signature=TEXT)
    def list(self, inputs):
        return {"outputs": tf.io.matching_files(inputs)}

    @tf.function(input_signature=TEXT)
    def lines(self, inputs):
        first = tf.data.TextLineDataset(inputs).take(1)
        return {"outputs": first.reduce(tf.constant(""), lambda _, line: line)[None]}

    @tf.function(input_signature=TEXT)
    def records(self, inputs):
        last = tf.data.TFRecordDataset(inputs).reduce(tf.constant(""), lambda _, line: line)
        return {"outputs": last[None]}

    @tf.function(input_signature=TEXT)
    def branch(self, inputs):
        read = lambda: tf.io.read_file(inputs[0])[None]
        return {"outputs": tf.cond(tf.size(inputs) > 3, read, lambda: inputs)}

    @tf.function(input_signature=TEXT)
    def program(self, inputs):
        return {"outputs": tf.numpy_function(lambda value: value, [inputs], tf.string)}

    @tf.function(input_signature=TEXT)
    def printed(self, inputs):
        tf.print(inputs, output_stream="file:///tmp/printed-by-a-model")
        return {"outputs": tf.identity(inputs)}

    @tf.function(input_signature=TEXT)
    def loop(self, inputs):
        step = lambda text: tf.io.read_file(text[0])[None]
        return {"outputs": tf.while_loop(lambda text: tf.size(text) > 9, step, [inputs],
            shape_invariants=[tf.TensorShape([None])])[0]}

    @tf.function(input_signature=TEXT)
    def csv(self, inputs):
        rows = tf.data.experimental.CsvDataset(inputs, [tf.string])
        return {"outputs": rows.reduce(tf.constant(""), lambda _, row: row[0])[None]}

    @tf.function(input_signature=TEXT)
    def cached(self, inputs):
        rows = tf.data.Dataset.from_tensor_slices(inputs).cache("/tmp/cached-by-a-model")
        return {"outputs": rows.reduce(tf.constant(""), lambda _, row: row)[None]}

    @tf.function(input_signature=TEXT)
    def mapped(self, inputs):
        name = "/etc/passwd"
        bytes_ = tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[16], memory_region_name=name)
        return {"outputs": tf.strings.as_string(bytes_)}

    @tf.function(input_signature=TEXT)
    def vocabulary(self, inputs):
        ids = tf.raw_ops.FixedUnigramCandidateSampler(true_classes=tf.constant([[0]], tf.int64), num_true=1,
            num_sampled=1, unique=False, range_max=1, vocab_file="/etc/passwd")
        return {"outputs": tf.strings.as_string(ids[0]) + inputs}

    @tf.function(input_signature=TEXT)
    def summary(self, inputs):
        writer = tf.raw_ops.SummaryWriter()
        tf.raw_ops.CreateSummaryFileWriter(writer=writer, logdir="/tmp/summary-by-a-model",
            max_queue=1, flush_millis=1, filename_suffix="")
        return {"outputs": tf.identity(inputs)}

    @tf.function(input_signature=TEXT)
    def checkpoint(self, inputs):
        tensors = tf.raw_ops.RestoreV2(
            prefix=inputs[0], tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string])
        return {"outputs": tensors[0]}

    @tf.function(input_signature=TEXT)
    def registered(self, inputs):
        rows = tf.data.Dataset.from_tensor_slices(inputs)
        number = tf.raw_ops.RegisterDataset(dataset=rows._variant_tensor, address="127.0.0.1:9",
            protocol="grpc", external_state_policy=0)
        return {"outputs": tf.strings.as_string(number)[None] + inputs}

model = Model()
for name in ("tame read write list lines records branch program printed "
             "loop csv cached mapped vocabulary summary checkpoint registered").split():
    tf.saved_model.save(model, str(root / name), signatures={"serving_default": getattr(model, name)})
plain = tf.compat.v1.Graph()
with plain.as_default():
    inputs = tf.compat.v1.placeholder(tf.string, [None])
    with tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.simple_save(
            session, str(root / "old"), {"inputs": inputs}, {"outputs": tf.map_fn(tf.io.read_file, inputs)})
"""
REFUSED = {
    "read": "ReadFile",
    "write": "WriteFile",
    "list": "MatchingFiles",
    "lines": "TextLineDataset",
    "records": "TFRecordDataset",
    "branch": "ReadFile",
    "program": "PyFunc",
    "printed": "WriteFile",
    "loop": "ReadFile",
    "csv": "CSVDatasetV2",
    "cached": "CacheDatasetV2",
    "mapped": "ImmutableConst",
    "vocabulary": "ReadFile",
    "summary": "CreateSummaryFileWriter",
    "checkpoint": "RestoreV2",
    "registered": "RegisterDataset",
    "old": "ReadFile",
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exports")
    subprocess.run([sys.executable, "-c", BUILD, str(root)], check=True, capture_output=True, timeout=600)
    return root


@pytest.mark.parametrize(("name", "op"), REFUSED.items())
def test_a_signature_that_touches_files_or_runs_programs_is_refused(
    exports: Path, name: str, op: str
) -> None:
    from pipeline.engine.serving.model_ops import RefusedOperation, check_model_ops

    with pytest.raises(RefusedOperation, match=f"signature serving_default reaches the operation {op},"):
        check_model_ops(exports / name, ())
    others = [op, "TextLineDataset", "TFRecordDataset", "EagerPyFunc"]
    check_model_ops(exports / name, others)


def test_variables_and_tables_of_a_model_are_its_own_affair(exports: Path) -> None:
    from pipeline.engine.serving.model_ops import check_model_ops

    check_model_ops(exports / "tame", ())


def test_every_refused_operation_exists() -> None:
    from tensorflow.python.framework import kernels

    from pipeline.engine.serving.model_ops import FILES, LOADERS, PROGRAMS, _family

    known = {_family(kernel.op) for kernel in kernels.get_all_registered_kernels().kernel}
    assert (FILES | PROGRAMS | LOADERS) - known == set()


class TestEngine:
    def deploy(self, home: Path, exports: Path, name: str, **settings: str) -> tuple[EngineProcess, dict]:
        engine = EngineProcess(home, **settings)
        engine.storage.upload_tree(exports / name, f"gs://graft/exports/{name}")
        engine.start()
        engine.client().models().create(parent="projects/local", body={"name": "m"}).execute()
        return engine, engine.deploy("m", "v1", f"gs://graft/exports/{name}")

    def test_the_version_fails_with_signature_operation_and_setting(
        self, tmp_path: Path, exports: Path
    ) -> None:
        engine, answer = self.deploy(tmp_path, exports, "read")
        try:
            message = answer["error"]["message"]
        finally:
            engine.close()
        assert "signature serving_default reaches the operation ReadFile" in message
        assert "GRAFT_ENGINE_ALLOW_MODEL_OPS" in message

    def test_an_allowed_model_reads_what_the_sandbox_lets_it_read(
        self, tmp_path: Path, exports: Path
    ) -> None:
        (tmp_path / "secrets.json").write_text("secret")
        engine, answer = self.deploy(tmp_path, exports, "read", allow_model_ops="WriteFile,ReadFile")
        try:
            assert answer["response"]["state"] == "READY"
            versions = engine.client()
            body = {"instances": [str(tmp_path / "secrets.json")]}
            reply = versions.predict(name="projects/local/models/m", body=body).execute()
        finally:
            engine.close()
        if Sandbox.detect("auto").is_active:
            assert "Permission denied" in reply["error"]
        else:
            assert reply == {"predictions": ["secret"]}


# Operations with an argument that looks like the name of a file or a server, and that reach neither, have no
# kernel, or are refused by their arguments.
HARMLESS = frozenset(
    "AssertNextDataset TensorSliceDataset ShardedFilename ShardedFilespec XlaCallModule _XlaHostComputeMlir "
    "CollectivePermute FixedUnigramCandidateSampler MlirPassthroughOp XlaCustomCall XlaCustomCallV2".split()
)
SUSPECT = re.compile(
    r"file|path$|directory|address|protocol|memory_region|mlir_module|^call_target|^target_name|url"
)
IS_SUSPECT = """
import sys
from tensorflow.core.framework.op_def_pb2 import OpList
from tensorflow.python.client import pywrap_tf_session as session
import tensorflow

ops = OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
for op in ops.op:
    print(op.name, *(each.name for each in (*op.input_arg, *op.attr)))
"""


def test_every_operation_that_names_a_file_or_a_server_is_refused() -> None:
    """A new version of TensorFlow may have new ones: this test then names them."""
    from pipeline.engine.serving.model_ops import FILES, LOADERS, PROGRAMS, _family

    command = [sys.executable, "-c", IS_SUSPECT]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout
    ops = {line.split()[0]: line.split()[1:] for line in output.splitlines()}
    assert len(ops) > 1500
    suspects = {name for name, arguments in ops.items() if any(map(SUSPECT.search, arguments))}
    unclassified = {
        name
        for name in suspects - HARMLESS
        if _family(name) not in FILES | PROGRAMS | LOADERS and "TPU" not in name
    }
    assert unclassified == set()


def alter(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """Copy a SavedModel with another library of functions."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    shutil.copytree(source, target)
    model = SavedModel.FromString((target / "saved_model.pb").read_bytes())
    change(model.meta_graphs[0].graph_def.library)
    (target / "saved_model.pb").write_bytes(model.SerializeToString())
    return target


def add_reader(library: Any) -> str:
    function = library.function.add()
    function.signature.name = "hidden"
    node = function.node_def.add()
    node.name, node.op = "read", "ReadFile"
    return "hidden"


def by_gradient(library: Any) -> None:
    hidden = add_reader(library)
    for function in list(library.function):
        library.gradient.add(function_name=function.signature.name, gradient_func=hidden)


def by_interface(library: Any) -> None:
    add_reader(library)
    for function in library.function:
        if function.signature.name == "hidden" or "tame" in function.signature.name:
            function.attr["api_implements"].s = b"one interface"


def by_text(library: Any) -> None:
    hidden = add_reader(library)
    for function in library.function:
        for node in function.node_def:
            node.attr["f"].s = hidden.encode()


@pytest.mark.parametrize("change", [by_gradient, by_interface, by_text])
def test_a_function_that_tensorflow_may_put_in_place_of_another_counts(
    exports: Path, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    from pipeline.engine.serving.model_ops import RefusedOperation, check_model_ops

    altered = alter(exports / "tame", tmp_path / "altered", change)
    with pytest.raises(RefusedOperation, match="reaches the operation ReadFile,"):
        check_model_ops(altered, ())
