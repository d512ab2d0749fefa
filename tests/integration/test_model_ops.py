"""Models that touch files: which of them the engine refuses, and with which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

model = Model()
for name in "tame read write list lines records branch program printed".split():
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
    "old": "ReadFile",
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exports")
    subprocess.run([sys.executable, "-c", BUILD, str(root)], check=True, capture_output=True, timeout=180)
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
