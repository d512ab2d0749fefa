"""Which operations a SavedModel runs, read from its graph before it is loaded.

A graph is a program: some operations read and write files by name, or run Python. What a served signature
reaches, or what loading runs, must have none of them. Functions that nothing reaches may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObject
from tensorflow.python.saved_model.loader_impl import parse_saved_model

FILES = frozenset(
    "ReadFile WriteFile MatchingFiles WholeFileReader TextLineReader TFRecordReader FixedLengthRecordReader "
    "LMDBReader RecordInput LoadAndRemapMatrix DumpTensor FileSystemSetConfiguration "
    "TextLineDataset TFRecordDataset FixedLengthRecordDataset MatchingFilesDataset CSVDataset SqlDataset "
    "LMDBDataset CacheDataset SnapshotDataset SnapshotDatasetReader SnapshotNestedDatasetReader "
    "SnapshotChunkDataset ListSnapshotChunksDataset LoadDataset SaveDataset DistributedSave "
    "DatasetToTFRecord DebugIdentity DebugNanCount DebugNumericSummary CreateSummaryFileWriter "
    "CreateSummaryDbWriter ImmutableConst GenerateVocabRemapping CalibrationStatisticsSaver Skipgram".split()
)
PROGRAMS = frozenset(
    "PyFunc PyFuncStateless EagerPyFunc RemoteCall RpcCall RpcClient RpcServer RpcServerStart "
    "RpcServerRegister DataServiceDataset RegisterDataset DatasetFromGraph DeserializeIterator".split()
)
SAVERS = frozenset("Save SaveSlices MergeV2Checkpoints".split())
# Restoring variables and filling tables is how a model is loaded, from its own files; a request must not.
LOADERS = frozenset("Restore RestoreSlice InitializeTableFromTextFile".split())
# Operations that touch a file only if an attribute names one: as which they count unless the attribute is so.
BY_ATTRIBUTE = {
    "PrintV2": ("WriteFile", "output_stream", re.compile(rb"|stdout|stderr|log\(\w+\)")),
    "FixedUnigramCandidateSampler": ("ReadFile", "vocab_file", re.compile(rb"")),
    "DecodeProtoV2": ("ReadFile", "descriptor_source", re.compile(rb"|local://|bytes://.*", re.DOTALL)),
    "EncodeProto": ("ReadFile", "descriptor_source", re.compile(rb"|local://|bytes://.*", re.DOTALL)),
}
LOAD_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "saved_model_train_op")
SERVE = "serve"  # the tag of the graph that is served
LOAD_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")
_RESOURCE_METHODS = ("_initialize", "_create_resource", "_destroy_resource")


class RefusedOperation(Exception):
    """A model that may not be served; the message names the signature, the operation and the setting."""


def check_model_ops(directory: Path, allowed: Collection[str]) -> None:
    """Check a SavedModel before it is loaded.

    Args:
        directory: Where `saved_model.pb` is.
        allowed: Operations that are not refused.

    Raises:
        RefusedOperation: naming the first operation that is not allowed.
        ValueError: if no graph is tagged `serve`.
    """
    for meta in _serving_graphs(directory):
        graph = _Graph(meta)
        for name, ops in graph.signatures():
            _check(f"signature {name}", ops, FILES | PROGRAMS | SAVERS | LOADERS, allowed)
        _check("what loading runs", graph.loading(), FILES | PROGRAMS | SAVERS, allowed)
        _check("what saving runs", graph.saving(), FILES | PROGRAMS, allowed)


def _serving_graphs(directory: Path) -> list[MetaGraphDef]:
    """Return the graphs that are served: those tagged `serve` and nothing else, as in v1."""
    graphs = parse_saved_model(str(directory)).meta_graphs
    if serving := [meta for meta in graphs if set(meta.meta_info_def.tags) == {SERVE}]:
        return serving
    tag_sets = ", ".join(str(sorted(meta.meta_info_def.tags)) for meta in graphs) or "none"
    raise ValueError(
        f"it has no MetaGraph whose tags are exactly ['{SERVE}']; its tag sets are {tag_sets}. Export it "
        f"with that tag"
    )


def _check(where: str, ops: Iterable[str], refused: Collection[str], allowed: Collection[str]) -> None:
    for op in sorted(set(ops)):
        if op not in allowed and _family(op) in refused:
            raise RefusedOperation(
                f"{where} reaches the operation {op}, which is refused: it reads or writes files, or runs "
                f"programs. If you trust the model, add {op} to GRAFT_ENGINE_ALLOW_MODEL_OPS"
            )


def _family(op: str) -> str:
    """Return an operation's name without the marks of its version."""
    return op.removeprefix("Experimental").rstrip("0123456789").removesuffix("V")


class _Graph:
    """The operations of one meta graph, by what reaches them.

    Args:
        meta: The meta graph.
    """

    def __init__(self, meta: MetaGraphDef) -> None:
        self._meta = meta
        self._nodes: dict[str, NodeDef] = {node.name: node for node in meta.graph_def.node}
        library = meta.graph_def.library.function
        self._functions: dict[str, FunctionDef] = {function.signature.name: function for function in library}
        gradients = meta.graph_def.library.gradient
        self._gradients = {each.function_name: each.gradient_func for each in gradients}
        self._interfaces: dict[bytes, list[str]] = {}  # TensorFlow exchanges functions of one interface
        for name, function in self._functions.items():
            if "api_implements" in function.attr:
                self._interfaces.setdefault(function.attr["api_implements"].s, []).append(name)

    def signatures(self) -> Iterator[tuple[str, set[str]]]:
        """Yield the operations that each signature reaches, whichever way it is loaded."""
        for name, signature in self._meta.signature_def.items():
            if name not in LOAD_SIGNATURES:
                yield name, self._reach(nodes=_tensors(signature))
        for signatures in self._children("signatures"):
            for child in signatures.children:
                yield child.local_name, self._reach(functions=self._functions_of([child.node_id]))

    def loading(self) -> set[str]:
        """Return the operations that run when the model is loaded."""
        names = [self._meta.saver_def.restore_op_name]
        for name in LOAD_SIGNATURES:
            names += _tensors(self._meta.signature_def[name]) if name in self._meta.signature_def else []
        for key in LOAD_COLLECTIONS:
            names += (
                self._meta.collection_def[key].node_list.value if key in self._meta.collection_def else []
            )
        ids = [
            child.node_id
            for node in self._objects
            for child in node.children
            if child.local_name in _RESOURCE_METHODS
        ]
        ids += [each.restore_function for node in self._objects for each in node.saveable_objects.values()]
        return self._reach(nodes=names, functions=self._functions_of(ids))

    def saving(self) -> set[str]:
        """Return the operations that run when the model is saved again, which the engine never does."""
        ids = [each.save_function for node in self._objects for each in node.saveable_objects.values()]
        names = [self._meta.saver_def.save_tensor_name]
        return self._reach(nodes=names, functions=self._functions_of(ids))

    @property
    def _objects(self) -> Sequence[SavedObject]:
        nodes: Sequence[SavedObject] = self._meta.object_graph_def.nodes
        return nodes

    def _children(self, name: str) -> Iterator[SavedObject]:
        if self._objects:
            for child in self._objects[0].children:
                if child.local_name == name:
                    yield self._objects[child.node_id]

    def _functions_of(self, ids: Iterable[int]) -> list[str]:
        names: list[str] = []
        for node in (self._objects[number] for number in ids if number < len(self._objects)):
            names += node.function.concrete_functions
            names.append(node.bare_concrete_function.concrete_function_name)
        return names

    def _reach(self, *, nodes: Iterable[str] = (), functions: Iterable[str] = ()) -> set[str]:
        """Return the operations that graph nodes depend on, and those in functions that are called."""
        ops: set[str] = set()
        seen: set[tuple[str, str]] = set()
        todo = [("node", _node_name(name)) for name in nodes] + [("function", name) for name in functions]
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            if place[0] == "function":
                todo += [("function", name) for name in self._stand_for(place[1])]
            for node in self._body(*place):
                ops.add(_op_name(node))
                todo += [("function", name) for name in _called(node)]
                todo += [("node", _node_name(name)) for name in node.input if place[0] == "node"]
        return ops

    def _stand_for(self, name: str) -> Iterator[str]:
        """Yield the functions that may run in place of one: its gradient, and others of its interface."""
        yield self._gradients.get(name, "")
        if name in self._functions:
            attributes = self._functions[name].attr
            yield from _function_names(attributes.values())
            if interface := attributes["api_implements"].s if "api_implements" in attributes else b"":
                yield from self._interfaces.get(interface, ())

    def _body(self, kind: str, name: str) -> Sequence[NodeDef]:
        """Return a node, or all nodes of a function: whatever is stateful in one runs."""
        if kind == "node":
            return [self._nodes[name]] if name in self._nodes else []
        return self._functions[name].node_def if name in self._functions else []


def _op_name(node: NodeDef) -> str:
    """Return a node's operation; one that is given a file is as good as a read or a write."""
    if node.op in BY_ATTRIBUTE:
        op, name, harmless = BY_ATTRIBUTE[node.op]
        value = node.attr[name]  # a placeholder stands for what the caller of the function gives
        if value.placeholder or not harmless.fullmatch(value.s):
            return op
    return str(node.op)


def _called(node: NodeDef) -> list[str]:
    """Return the functions that a node may call: its own operation may be one."""
    return [str(node.op), *_function_names(node.attr.values())]


def _function_names(values: Iterable[AttrValue]) -> Iterator[str]:
    """Yield the names in attributes that may be functions, also those that are given as text."""
    for value in values:
        for function in (value.func, *value.list.func):
            if function.name:
                yield function.name
                yield from _function_names(function.attr.values())  # what its placeholders stand for
        yield from (text.decode(errors="replace") for text in (value.s, *value.list.s) if text)


def _tensors(signature: SignatureDef) -> list[str]:
    """Return the names of a signature's tensors."""
    tensors = [*signature.outputs.values(), *signature.inputs.values()]
    return [name for tensor in tensors for name in _tensor_names(tensor)]


def _tensor_names(tensor: TensorInfo) -> Iterator[str]:
    sparse = tensor.coo_sparse
    yield from (
        tensor.name,
        sparse.values_tensor_name,
        sparse.indices_tensor_name,
        sparse.dense_shape_tensor_name,
    )
    for component in tensor.composite_tensor.components:
        yield from _tensor_names(component)


def _node_name(text: str) -> str:
    return text.removeprefix("^").partition(":")[0]
