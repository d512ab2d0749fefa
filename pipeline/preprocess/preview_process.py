"""A preview in a process of its own, which ends in time and takes no more memory than it may."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.config import Classifier
from pipeline.errors import DatasetError, PipelineError
from pipeline.types import JsonDict

if TYPE_CHECKING:
    from pipeline.preprocess.preview import DatasetPreview

SECONDS = 15.0
GRACE_SECONDS = 30.0  # to load the libraries, and for the one thing that is being read when the time is over
MEMORY_BYTES = 4 << 30  # of addresses; libraries reserve more than they use
FILE_BYTES = 2 << 30
MAX_CLASSES = 200  # told; more are counted


def preview_in_process(classifier: Classifier, *, seconds: float = SECONDS) -> DatasetPreview:
    """Return the preview of a classifier's dataset.

    Args:
        classifier: Whose sources.
        seconds: When to stop looking; what was seen until then is told.

    Raises:
        DatasetError: if the sources cannot be looked at with that time and memory.
    """
    command = [sys.executable, "-m", "pipeline.preprocess.preview_process", str(seconds)]
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    text = json.dumps(classifier.to_dict())
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, env=environ
        )
    except subprocess.TimeoutExpired:
        raise DatasetError(
            f"Looking at the sources took longer than {seconds + GRACE_SECONDS:.0f} s. They may be good: "
            "create the classifier and start a run, or name a smaller part of them."
        ) from None
    if done.returncode != 0:
        raise DatasetError(
            "Looking at the sources took more memory, processor time or disk than it may. Create the "
            "classifier and start a run, or name a smaller part of them."
        )
    answer: JsonDict = json.loads(done.stdout)
    if "error" in answer:
        raise DatasetError(str(answer["error"]))
    from pipeline.preprocess.preview import DatasetPreview

    return DatasetPreview.from_dict(answer)


def main() -> None:
    """Print the preview of the classifier on standard input, or why there is none."""
    seconds = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    cpu = round(seconds + GRACE_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    try:
        answer = _look(Classifier.from_dict(json.load(sys.stdin)), seconds).to_dict()
    except PipelineError as error:
        answer = {"error": error.message}
    sys.stdout.write(json.dumps(answer))


def _look(classifier: Classifier, seconds: float) -> DatasetPreview:
    from pipeline.artifacts.workspace import Workspace
    from pipeline.config import Settings
    from pipeline.datasets.fetcher import FetchPolicy
    from pipeline.datasets.sources.presence import find_missing_sources
    from pipeline.preprocess.preview import DatasetPreview, preview_dataset
    from pipeline.storage import Storage

    workspace = Workspace(Storage.from_environment(), Settings().workspace)
    policy = FetchPolicy.from_environment(classifier.dataset.fetch)
    if missing := [str(each) for each in find_missing_sources(workspace.storage, classifier, policy)]:
        return DatasetPreview(problems=missing)
    preview = preview_dataset(workspace, classifier, policy, seconds=seconds)
    if len(preview.classes) > MAX_CLASSES:
        preview.statements.append(
            f"{len(preview.classes)} classes, of which the first {MAX_CLASSES} are shown"
        )
        preview.classes = dict(islice(preview.classes.items(), MAX_CLASSES))
    return preview


if __name__ == "__main__":
    main()
