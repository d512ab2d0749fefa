"""What runs the cells of a notebook in a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import JobResultError
from pipeline.storage import Storage
from pipeline.trainer.cells import describe_result, load_file, load_result, main


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("GRAFT_BUCKETS", f"graft={tmp_path / 'bucket'}")
    return Storage.from_environment()


def run(tmp_path: Path, *texts: str) -> int:
    names = []
    for number, text in enumerate(texts):
        names.append(f"cell{number}")
        (tmp_path / f"cell{number}.py").write_text(text)
    return main(tmp_path, ["--cells", *names, "--job-dir", "gs://graft/jobs/j/"])


def fetch(storage: Storage, tmp_path: Path) -> Path:
    storage.download_tree("gs://graft/jobs/j", tmp_path / "fetched")
    return tmp_path / "fetched"


def test_cells_are_one_program_in_the_order_of_the_arguments(storage: Storage, tmp_path: Path) -> None:
    code = run(tmp_path, "def f():\n    return later", "later = __name__", "_ml_result = [f(), 1.5]")
    assert code == 0
    assert load_result(fetch(storage, tmp_path)) == ["__main__", 1.5]


def test_what_a_failed_cell_left_is_kept_and_the_trace_begins_in_the_notebook(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "open(job_dir + '/half.txt', 'w').close()\nraise ValueError('no luck')"
    assert run(tmp_path, text) == 1
    assert storage.exists("gs://graft/jobs/j/half.txt")
    assert not storage.exists("gs://graft/jobs/j/ml_result.json")
    trace = capsys.readouterr().err
    assert "runpy" not in trace
    assert "ValueError: no luck" in trace


class TestResults:
    @pytest.mark.parametrize(
        "value",
        [None, 3, 1.5, "text", [1, "a"], {"a": [1, None]}],
    )
    def test_plain_values_come_back_equal(self, tmp_path: Path, value: Any) -> None:
        assert self.through(tmp_path, value) == value

    def test_arrays_come_back_as_arrays(self, tmp_path: Path) -> None:
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert np.array_equal(self.through(tmp_path, array), array)
        several = self.through(tmp_path, {"a": array, "b": array + 1})
        assert sorted(several) == ["a", "b"]

    def test_numbers_of_numpy_are_numbers(self, tmp_path: Path) -> None:
        assert self.through(tmp_path, {"loss": np.float32(0.5), "row": np.arange(2)}) == {
            "loss": 0.5,
            "row": [0, 1],
        }

    @pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()], object), lambda: 1])
    def test_anything_else_is_told_by_its_type(self, tmp_path: Path, value: Any) -> None:
        assert describe_result(value, tmp_path)["kind"] == "unserialisable"
        with pytest.raises(JobResultError, match="cannot be brought back"):
            self.through(tmp_path, value)

    def through(self, tmp_path: Path, value: Any) -> Any:
        (tmp_path / "ml_result.json").write_text(json.dumps(describe_result(value, tmp_path)))
        return load_result(tmp_path)

    def test_no_result_is_none_and_files_are_read_by_their_kind(self, tmp_path: Path) -> None:
        assert load_result(tmp_path) is None
        (tmp_path / "a.json").write_text("[1]")
        (tmp_path / "a.txt").write_text("x")
        assert load_file(tmp_path / "a.json") == [1]
        assert load_file(tmp_path / "a.txt") == b"x"
