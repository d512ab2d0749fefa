"""A head of the user's own: a Python file, checked and staged where a job is submitted."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass

from pipeline.errors import ConfigError, StorageError
from pipeline.storage import Storage

BUILDER = "build_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedHead:
    """A head's file in the bucket.

    Args:
        uri: `<workspace>/heads/<digest>.py`.
        digest: SHA-256 of its text.
    """

    uri: str
    digest: str


def stage_head(module: str, *, storage: Storage, workspace: str) -> StagedHead:
    """Put the file of a head into the bucket, once; its name there is its digest.

    Args:
        module: A path or URI of a Python file.
        storage: Reads a URI and writes the bucket.
        workspace: URI of the bucket, without a trailing slash.

    Raises:
        ConfigError: if there is no such file, or it builds no head.
    """
    try:
        data = storage.local_path(module).read_bytes()
    except (StorageError, ConfigError, OSError) as error:
        raise ConfigError(
            f"`model.head.module`: {module} cannot be read: {error} Give a path or gs:// URI of a Python "
            "file.",
            module=module,
        ) from error
    return stage_head_text(data, origin=module, storage=storage, workspace=workspace)


def stage_head_text(data: bytes, *, origin: str, storage: Storage, workspace: str) -> StagedHead:
    """Put the text of a head into the bucket; see `stage_head`."""
    find_builder(data, origin=origin)
    digest = hashlib.sha256(data).hexdigest()
    uri = f"{workspace}/heads/{digest}.py"
    storage.create_bytes(uri, data)
    return StagedHead(uri=uri, digest=digest)


def find_builder(data: bytes, *, origin: str) -> str:
    """Return the name of the function that builds a head: `build_head`, or the only function there is.

    Args:
        data: The text of a Python file.
        origin: What it is called in messages.

    Raises:
        ConfigError: if it is no Python, has no such function, or one that does not take two arguments.
    """
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(f"{origin}, line {line}: {getattr(error, 'msg', error)}", module=origin) from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    name = BUILDER if BUILDER in functions else next(iter(functions), "")
    if not name or (name != BUILDER and len(functions) > 1):
        listed = ", ".join(functions) or "none"
        raise ConfigError(
            f"{origin} must define `{BUILDER}(feature_width, num_classes)`, which returns a Keras model, or "
            f"that one function alone. Functions found: {listed}",
            module=origin,
        )
    arguments = functions[name].args
    given = [*arguments.posonlyargs, *arguments.args]
    required = len(given) - len(arguments.defaults)
    if not (required <= 2 <= len(given) or (arguments.vararg and required <= 2)):
        raise ConfigError(
            f"{origin}: `{name}` must take two arguments, the width of the features and the number of "
            f"classes. Received: {name}({ast.unparse(arguments)})",
            module=origin,
        )
    return name
