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

    @tf.function(input_signature=TEXT)
    def graph(self, inputs):
        rows = tf.raw_ops.DatasetFromGraph(graph_def=inputs[0])
        [row] = tf.raw_ops.DatasetToSingleElement(
            dataset=rows, output_types=[tf.string], output_shapes=[[]])
        return {"outputs": inputs + row}

    @tf.function(input_signature=TEXT)
    def decoded(self, inputs):
        decoded = tf.io.decode_proto(inputs, "a.B", ["c"], [tf.string], descriptor_source="/etc/passwd")
        return {"outputs": decoded.values[0][:, 0]}

    @tf.function(input_signature=TEXT)
    def encoded(self, inputs):
        encoded = tf.io.encode_proto(tf.ones([1, 1], tf.int32), [inputs[None]], ["c"], "a.B",
            descriptor_source="/etc/passwd")
        return {"outputs": encoded}

    @tf.function(input_signature=TEXT)
    def inline(self, inputs):
        tf.print(inputs, output_stream=tf.compat.v1.logging.info)
        decoded = tf.io.decode_proto(inputs, "tensorflow.NodeDef", ["name"], [tf.string])
        return {"outputs": decoded.values[0][:, 0]}

model = Model()
for name in ("tame read write list lines records branch program printed "
             "loop csv cached mapped vocabulary summary checkpoint registered "
             "graph decoded encoded inline").split():
    tf.saved_model.save(model, str(root / name), signatures={"serving_default": getattr(model, name)})
plain = tf.compat.v1.Graph()
with plain.as_default():
    inputs = tf.compat.v1.placeholder(tf.string, [None])
    with tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.simple_save(
            session, str(root / "old"), {"inputs": inputs}, {"outputs": tf.map_fn(tf.io.read_file, inputs)})
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = tf.compat.v1.placeholder(tf.string, [None])
    save = tf.raw_ops.SaveV2(prefix="/tmp/saved-by-a-model", tensor_names=["a"], shape_and_slices=[""],
        tensors=[tf.constant(1)])
    builder = tf.compat.v1.saved_model.Builder(str(root / "saving"))
    signature = tf.compat.v1.saved_model.predict_signature_def({"inputs": inputs}, {"outputs": inputs + "a"})
    builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=save)
    builder.save()
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
    "graph": "DatasetFromGraph",
    "decoded": "ReadFile",
    "encoded": "ReadFile",
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


@pytest.mark.parametrize("name", ["tame", "inline"])
def test_variables_and_tables_of_a_model_are_its_own_affair(exports: Path, name: str) -> None:
    from pipeline.engine.serving.model_ops import check_model_ops

    check_model_ops(exports / name, ())


def test_loading_restores_and_never_saves(exports: Path) -> None:
    from pipeline.engine.serving.model_ops import RefusedOperation, check_model_ops

    with pytest.raises(RefusedOperation, match="what loading runs reaches the operation SaveV2,"):
        check_model_ops(exports / "saving", ())
    check_model_ops(exports / "saving", ["SaveV2"])


def test_every_refused_operation_exists() -> None:
    from tensorflow.python.framework import kernels

    from pipeline.engine.serving.model_ops import BY_ATTRIBUTE, FILES, LOADERS, PROGRAMS, SAVERS, _family

    known = {kernel.op for kernel in kernels.get_all_registered_kernels().kernel}
    assert (FILES | PROGRAMS | SAVERS | LOADERS) - {_family(op) for op in known} == set()
    assert BY_ATTRIBUTE.keys() - known == set()


class TestEngine:
    def deploy(self, engine: EngineProcess, exports: Path, name: str) -> dict[str, Any]:
        engine.storage.upload_tree(exports / name, f"gs://graft/exports/{name}")
        engine.start()
        engine.client().models().create(parent="projects/local", body={"name": "m"}).execute()
        return engine.deploy("m", "v1", f"gs://graft/exports/{name}")

    def test_the_version_fails_with_signature_operation_and_setting(
        self, tmp_path: Path, exports: Path
    ) -> None:
        with EngineProcess(tmp_path) as engine:
            message = self.deploy(engine, exports, "read")["error"]["message"]
        assert "signature serving_default reaches the operation ReadFile" in message
        assert "GRAFT_ENGINE_ALLOW_MODEL_OPS" in message

    def test_an_allowed_model_reads_what_the_sandbox_lets_it_read(
        self, tmp_path: Path, exports: Path
    ) -> None:
        (tmp_path / "secrets.json").write_text("secret")
        with EngineProcess(tmp_path, allow_model_ops="WriteFile,ReadFile") as engine:
            assert self.deploy(engine, exports, "read")["response"]["state"] == "READY"
            body = {"instances": [str(tmp_path / "secrets.json")]}
            reply = engine.client().predict(name="projects/local/models/m", body=body).execute()
        if Sandbox.detect("auto").is_active:
            assert "Permission denied" in reply["error"]
        else:
            assert reply == {"predictions": ["secret"]}


# Operations that take a text, or whose name or argument sounds like a file, a server or a program, and that
# reach none: each was looked at. Readers and summaries touch what only a refused operation opens.
HARMLESS = frozenset(
    "Abort AnonymousMultiDeviceIterator AnonymousMultiDeviceIteratorV3 AsString AssertNextDataset "
    "AssertPrevDataset BarrierInsertMany Batch BatchFunction CloseSummaryWriter Copy "
    "CopyHost CustomAggregator DatasetCardinality DatasetToGraph DatasetToGraphV2 DebugGradientIdentity "
    "DebugGradientRefIdentity DecodeAndCropJpeg DecodeBase64 DecodeCSV DecodeCompressed DecodeJSONExample "
    "DecodeJpeg DecodePaddedRaw DecodeRaw DeleteRpcFutureResource DenseToDenseSetOperation "
    "DenseToSparseSetOperation DeserializeManySparse DeserializeSparse DeviceIndex EncodeBase64 "
    "EncodeJpeg ExperimentalAssertNextDataset ExperimentalSetStatsAggregatorDataset "
    "ExperimentalThreadPoolHandle Fingerprint FlushSummaryWriter GraphDefVersion IdentityReader "
    "IdentityReaderV2 ImageProjectiveTransformV2 ImageProjectiveTransformV3 ImportEvent "
    "IteratorFromStringHandle IteratorFromStringHandleV2 MergeSummary MlirPassthroughOp "
    "MultiDeviceIterator MultiDeviceIteratorFromStringHandle OptimizeDataset OptimizeDatasetV2 "
    "OptionsDataset ParseExample ParseExampleV2 ParseSequenceExample ParseSequenceExampleV2 "
    "ParseSingleExample ParseSingleSequenceExample ParseTensor PartitionedCall RaggedCross "
    "RaggedTensorToTensor ReaderNumRecordsProduced ReaderNumRecordsProducedV2 ReaderNumWorkUnitsCompleted "
    "ReaderNumWorkUnitsCompletedV2 ReaderRead ReaderReadUpTo ReaderReadUpToV2 ReaderReadV2 ReaderReset "
    "ReaderResetV2 ReaderRestoreState ReaderRestoreStateV2 ReaderSerializeState ReaderSerializeStateV2 "
    "ReduceJoin RegexFullMatch RegexReplace RewriteDataset RpcCheckStatus RpcGetValue ScaleAndTranslate "
    "ScaleAndTranslateGrad SdcaFprint SetStatsAggregatorDataset ShardedFilename ShardedFilespec Snapshot "
    "SparseCrossV2 SparseToSparseSetOperation StatefulPartitionedCall StaticRegexFullMatch "
    "StaticRegexReplace StatsAggregatorSetSummaryWriter StringFormat StringJoin StringLength StringLower "
    "StringNGrams StringSplit StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast "
    "StringToHashBucketStrong StringToNumber StringUpper Substr SummaryWriter TensorSliceDataset "
    "TensorSummary TensorSummaryV2 ThreadPoolHandle UnicodeDecode UnicodeDecodeWithOffsets "
    "UnicodeTranscode UniformQuantizedConvolution UniformQuantizedConvolutionHybrid UnsortedSegmentJoin "
    "VarHandleOp WriteGraphSummary WriteRawProtoSummary WriteSummary XlaCallModule XlaCustomCall "
    "XlaCustomCallV2 XlaDequantize XlaLaunch XlaLaunchV2 XlaSharding XlaSpmdShardToFullShape "
    "_UnaryOpsComposition _VarHandlesOp _XlaCompile _XlaHostComputeMlir _XlaRun".split()
)
# Arguments whose text names no file, server or program in any operation.
HARMLESS_ARGUMENTS = frozenset(
    "activation_mode bad_indices_policy communication_hint container contents data_format dense_keys "
    "deterministic dimension_numbers dst_format equation frame_name fused_ops handle message metadata "
    "noise precision_config ragged_keys recv_device sa_name send_device separator shared_name source "
    "sparse_keys src_format stack_name tag tags tensor_array_name tensor_name var_name".split()
)
SUSPECT_ARGUMENT = re.compile(
    r"file|path$|directory|address|protocol|memory_region|mlir_module|^call_target|^target_name|url"
)
SUSPECT_NAME = re.compile(
    "File|Graph|Server|Rpc|Remote|Snapshot|Save|Load|Restore|Deserialize|SummaryWriter|Debug|Dump|Reader|"
    "Checkpoint|Custom|Launch|Compile|Execute|PyFunc|Record|TextLine|Sql|LMDB|Service|Module"
)
LIST_OPS = """
import tensorflow
from tensorflow.core.framework.op_def_pb2 import OpList
from tensorflow.core.framework.types_pb2 import DT_STRING
from tensorflow.python.client import pywrap_tf_session as session
from tensorflow.python.framework import kernels

runnable = {kernel.op for kernel in kernels.get_all_registered_kernels().kernel}
for op in OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList())).op:
    texts = [each.name for each in op.input_arg if each.type == DT_STRING and not each.is_ref]
    texts += [each.name for each in op.attr if "string" in each.type and not each.HasField("allowed_values")]
    every = [each.name for each in (*op.input_arg, *op.attr)]
    print(op.name, op.name in runnable, ",".join(texts), ",".join(every), sep=";")
"""


def is_suspect(name: str, runs: str, texts: str, arguments: str) -> bool:
    """Return whether an operation might touch a file, a server or a program, judged by its definition."""
    if any(map(SUSPECT_ARGUMENT.search, arguments.split(","))) and "TPU" not in name:
        return True
    takes_text = set(filter(None, texts.split(","))) - HARMLESS_ARGUMENTS
    return runs == "True" and bool(takes_text or SUSPECT_NAME.search(name))


def test_every_operation_that_takes_a_text_or_sounds_like_a_file_is_refused_or_known_as_harmless() -> None:
    """A new version of TensorFlow may have new ones: this test then names them."""
    from pipeline.engine.serving.model_ops import BY_ATTRIBUTE, FILES, LOADERS, PROGRAMS, SAVERS, _family

    command = [sys.executable, "-c", LIST_OPS]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout
    ops = [line.split(";") for line in output.splitlines()]
    assert len(ops) > 1500
    suspects = {op[0] for op in ops if is_suspect(*op)}
    refused = {name for name in suspects if _family(name) in FILES | PROGRAMS | SAVERS | LOADERS}
    assert suspects - refused - BY_ATTRIBUTE.keys() - HARMLESS == set()
    assert HARMLESS - suspects == set()
    assert HARMLESS & refused == set()


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


def by_argument(library: Any) -> None:
    """Call a function through an attribute of the caller."""
    hidden = add_reader(library)
    for function in library.function:
        for node in function.node_def:
            node.attr["f"].func.name = "no such function"
            node.attr["f"].func.attr["g"].func.name = hidden


def by_placeholder(library: Any) -> None:
    """Print to where the caller says."""
    for function in library.function:
        node = function.node_def.add(name="print", op="PrintV2")
        node.attr["output_stream"].placeholder = "where"


@pytest.mark.parametrize("change", [by_gradient, by_interface, by_text, by_argument, by_placeholder])
def test_a_function_that_tensorflow_may_put_in_place_of_another_counts(
    exports: Path, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    from pipeline.engine.serving.model_ops import RefusedOperation, check_model_ops

    altered = alter(exports / "tame", tmp_path / "altered", change)
    with pytest.raises(RefusedOperation, match="reaches the operation (ReadFile|WriteFile),"):
        check_model_ops(altered, ())
