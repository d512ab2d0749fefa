from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.fold_answers import FoldAnswers
from pipeline.artifacts.folders import JobDirectory
from pipeline.errors import BadArchive, FormatTooNew
from pipeline.npz import read_npz, write_npz
from pipeline.storage import Storage

ANSWERS = FoldAnswers(
    labels=np.array([0, 1, 1]),
    predicted=np.array([0, 1, 0]),
    scores=np.array([0.9, 0.8, 0.5], np.float32),
    groups=np.array([0, 1, 2]),
)


@pytest.fixture
def job(tmp_path: Path) -> JobDirectory:
    return JobDirectory(Storage({"graft": tmp_path}), "gs://graft/jobs/1")


def test_what_was_written_is_read_and_stays(job: JobDirectory) -> None:
    ANSWERS.write(job)
    replace(ANSWERS, scores=ANSWERS.scores / 2).write(job)
    found = FoldAnswers.find(job)
    assert found is not None
    assert found.predicted.tolist() == [0, 1, 0]
    assert np.array_equal(found.scores, ANSWERS.scores)


def test_a_job_of_an_early_release_has_none(job: JobDirectory) -> None:
    assert FoldAnswers.find(job) is None


def test_a_newer_format_is_refused_whatever_else_is_in_it(job: JobDirectory) -> None:
    job.storage.write_bytes(job.fold_answers, write_npz({"format": np.array(2), "other": np.zeros(3)}))
    with pytest.raises(FormatTooNew, match="FoldAnswers"):
        FoldAnswers.find(job)


def test_a_damaged_file_is_refused(job: JobDirectory) -> None:
    ANSWERS.write(job)
    arrays = read_npz(job.storage.read_bytes(job.fold_answers))
    job.storage.write_bytes(job.fold_answers, write_npz({**arrays, "scores": np.zeros((3, 2))}))
    with pytest.raises(BadArchive, match="scores"):
        FoldAnswers.find(job)
