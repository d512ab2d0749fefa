"""Runs the cells of a notebook as a job: `python -m trainer.task --cells DIGEST... --job-dir URI`.

The package has a file for each marked cell; the arguments say in which order they follow each other in the
notebook. They run as one program, like the notebook itself, and find a directory in `job_dir`: the files
that they leave there are uploaded to the job's directory in the bucket, also when they fail.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from pipeline.storage import Storage
from pipeline.types import JsonValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESULT = "_ml_result"  # the name that a package gives to the value of the last cell's last line
RESULT_FILE = "ml_result.json"
PROGRAM = "notebook.py"


class CellResult(TypedDict):
    """How the value of a job's last cell is kept: `ml_result.json`.

    `file` is beside it, for a Keras model and for arrays; `value` is of the kind `json`; `type` names what
    cannot be kept.
    """

    kind: Literal["keras", "array", "arrays", "json", "unserialisable"]
    file: NotRequired[str]
    value: NotRequired[JsonValue]
    type: NotRequired[str]


def main(folder: Path, argv: Sequence[str] | None = None) -> int:
    """Run cells; return the process's exit code.

    Args:
        folder: Where the files of the cells are.
        argv: Those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="python -m trainer.task", description=__doc__)
    parser.add_argument("--cells", nargs="+", required=True, help="names of the cells' files, in order")
    parser.add_argument("--job-dir", required=True, help="URI that results are brought to")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    texts = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in arguments.cells]
    with tempfile.TemporaryDirectory(prefix="graft-cells-") as temporary:
        job_dir = Path(temporary) / "job_dir"
        job_dir.mkdir()
        program = Path(temporary) / PROGRAM
        program.write_text(compose(texts), encoding="utf-8")
        try:
            return _run(program, job_dir)
        finally:
            Storage.from_environment().upload_tree(job_dir, arguments.job_dir.rstrip("/"))


def compose(texts: Sequence[str]) -> str:
    """Return the cells as one program."""
    parts = [f"# cell {number}\n{text.rstrip()}\n" for number, text in enumerate(texts, start=1)]
    return "\n".join(parts)


def _run(program: Path, job_dir: Path) -> int:
    try:
        values = runpy.run_path(str(program), init_globals={"job_dir": str(job_dir)}, run_name="__main__")
    except Exception as error:
        _print_error(error, program)
        return 1
    result = describe_result(values.get(RESULT), job_dir)
    (job_dir / RESULT_FILE).write_text(json.dumps(result), encoding="utf-8")
    return 0


def _print_error(error: BaseException, program: Path) -> None:
    """Print a traceback that begins where the notebook's own lines do."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(program):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__, file=sys.stderr)


def describe_result(value: Any, job_dir: Path) -> CellResult:
    """Keep a value in a form that needs no pickle.

    A Keras model becomes `ml_result.keras`, arrays `ml_result.npz`, the history of a training its numbers,
    and plain values JSON. Anything else has the kind `unserialisable` and its `type`; the job has succeeded
    all the same.
    """
    if _is_from("keras", "Model", value):
        value.save(job_dir / "ml_result.keras")
        return {"kind": "keras", "file": "ml_result.keras"}
    if _is_from("keras", "callbacks.History", value):
        value = value.history
    arrays = value if isinstance(value, Mapping) else {"result": value}
    if arrays and all(_is_from("numpy", "ndarray", array) for array in arrays.values()):
        return _keep_arrays(arrays, job_dir, kind="arrays" if isinstance(value, Mapping) else "array")
    try:
        return {"kind": "json", "value": json.loads(json.dumps(value, default=_plain, allow_nan=True))}
    except (TypeError, ValueError):
        return {"kind": "unserialisable", "type": f"{type(value).__module__}.{type(value).__qualname__}"}


def _keep_arrays(
    arrays: Mapping[str, NDArray[np.generic]], job_dir: Path, *, kind: Literal["array", "arrays"]
) -> CellResult:
    from pipeline.npz import write_npz

    if any(array.dtype.hasobject for array in arrays.values()):
        return {"kind": "unserialisable", "type": "numpy.ndarray of Python objects"}
    (job_dir / "ml_result.npz").write_bytes(write_npz({str(name): array for name, array in arrays.items()}))
    return {"kind": kind, "file": "ml_result.npz"}


def _plain(value: Any) -> JsonValue:
    """Return a NumPy number as Python's, a small array as a list."""
    if _is_from("numpy", "generic", value) or _is_from("numpy", "ndarray", value):
        plain: JsonValue = value.tolist()
        return plain
    raise TypeError


def _is_from(module: str, name: str, value: Any) -> bool:
    """Return True if a value is of a library's type; False where the library is not imported."""
    type_: Any = sys.modules.get(module)
    for part in name.split("."):
        type_ = getattr(type_, part, None)
    return type_ is not None and isinstance(value, type_)


def load_result(directory: Path) -> Any:
    """Return the value that a job's cell ended with; None if it had none.

    Raises:
        JobResultError: if it could not be kept; the message lists what can.
    """
    result = read_result(directory)
    if result["kind"] == "json":
        return result["value"]
    return load_file(directory / result["file"], result["kind"])


def read_result(directory: Path) -> CellResult:
    """Return how the value is kept, without loading it.

    Raises:
        JobResultError: if it could not be kept; the message lists what can.
    """
    from pipeline.errors import JobResultError

    path = directory / RESULT_FILE
    if not path.exists():
        return {"kind": "json", "value": None}
    result: CellResult = json.loads(path.read_text(encoding="utf-8"))
    if result["kind"] == "unserialisable":
        raise JobResultError(
            f"The cell's last line is a {result['type']}, which cannot be brought back. End the cell with a "
            "Keras model, arrays, or plain values (numbers, text, lists, dicts), or write files into "
            "`job_dir`.",
            type=result["type"],
        )
    return result


def load_file(path: Path, kind: str | None = None) -> Any:
    """Return what a file holds: a Keras model, arrays, JSON, or text."""
    kind = kind or path.suffix[1:]
    if kind == "keras":
        import keras

        return keras.saving.load_model(path)
    if kind in ("array", "arrays", "npz"):
        from pipeline.npz import read_npz

        arrays = read_npz(path)
        return arrays["result"] if kind == "array" else arrays
    text = path.read_bytes()
    return json.loads(text) if kind == "json" else text
