"""A comparison as tasks: the plan, a job for each backbone, and the recommendation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from pipeline.artifacts.model_comparison import ModelComparison
from pipeline.config import read_classifier
from pipeline.storage import Storage
from tests.fakes.comparison import run_equal_options
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.pictures import fetch_and_clean, folder_of

YAML = """\
name: toys
dataset:
  source: {{type: folder, uri: {folder}}}
model: {{epochs: 3}}
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "yaml" / "toys.yaml"
    path.parent.mkdir()
    path.write_text(YAML.format(folder=folder_of(tmp_path / "toys", {"ant": 24, "cat": 24})))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(path.parent))
    return path


@pytest.fixture
def dataset(toys: Path, storage: Storage) -> None:
    fetch_and_clean(read_classifier(toys), storage)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from graft.hooks.airflow_api import AirflowApiHook

    notes: list[str] = []
    monkeypatch.setattr(AirflowApiHook, "write_run_note", lambda self, dag, run, note: notes.append(note))
    return notes


@pytest.fixture
def plan(make_context: Callable[..., Any]) -> Callable[..., Any]:
    from graft.operators.comparison import PlanComparisonOperator

    def run(**given: Any) -> Any:
        return PlanComparisonOperator(task_id="plan", **{"classifier": "toys", **given}).execute(
            make_context()
        )

    return run


@pytest.fixture
def compare(engine: FakeMLEngine, make_context: Callable[..., Any]) -> Callable[..., Any]:
    from graft.operators.comparison import MLEngineCompareModelsOperator

    engine.run_job = run_equal_options

    def run(part: Any) -> Any:
        operator = MLEngineCompareModelsOperator(
            task_id="compare", part=part, deferrable=False, poll_seconds=0.0
        )
        return operator.execute(make_context(task_id="compare"))

    return run


@pytest.mark.usefixtures("dataset")
def test_each_backbone_is_a_job_and_the_last_task_recommends(
    plan: Callable[..., Any],
    compare: Callable[..., Any],
    engine: FakeMLEngine,
    make_context: Callable[..., Any],
    notes: list[str],
    storage: Storage,
) -> None:
    from graft.operators.comparison import RecommendModelOperator

    given = {"heads": ["dense", "logistic"], "parameters": {"model.epochs": [3, 5]}}
    parts = plan(backbones=["efficientnet_lite0"], **given)
    assert [part["number"] for part in parts] == [0]
    judged = [compare(part) for part in parts]
    assert [part["job"] for part in judged] == list(engine.jobs)
    assert compare(parts[0]) == judged[0], "another try, or another run, adopts the job"
    assert len(engine.jobs) == 1
    result = RecommendModelOperator(task_id="recommend", parts=judged).execute(make_context())
    stored = ModelComparison.read(storage, "gs://graft/classifiers/toys/comparison.json")
    assert len(stored.options) == 3, "dense of 3 and 5 epochs, and logistic, which has no epochs"
    assert (result["chosen"], result["recommendation"]) == (stored.chosen, stored.recommendation)
    assert storage.exists(result["page"])
    assert stored.recommendation in notes[0]
    assert stored.caution in notes[0]


@pytest.mark.usefixtures("dataset", "notes")
class TestWriting:
    """`write` puts the choice into the YAML; what somebody else wrote meanwhile stays."""

    @pytest.fixture
    def parts(
        self, plan: Callable[..., Any], compare: Callable[..., Any], engine: FakeMLEngine, toys: Path
    ) -> Any:
        engine.run_job = lambda job: run_equal_options(job, seed=4)  # whose choice is another model
        parts = plan(backbones=["efficientnet_lite0"], parameters={"model.epochs": [7, 9]})
        return [compare(part) for part in parts]

    @pytest.fixture
    def recommend(self, parts: Any, make_context: Callable[..., Any]) -> Callable[..., Any]:
        from graft.operators.comparison import RecommendModelOperator

        def run(**given: Any) -> Any:
            return RecommendModelOperator(task_id="recommend", parts=parts, **given).execute(make_context())

        return run

    def test_the_section_is_shown_and_the_file_stays_unless_told(
        self, recommend: Callable[..., Any], toys: Path, storage: Storage
    ) -> None:
        before = toys.read_text()
        section = recommend()["yaml"]
        assert toys.read_text() == before
        assert storage.read_bytes("gs://graft/classifiers/toys/comparison.yaml").decode() == section
        assert yaml.safe_load(section)["model"] != yaml.safe_load(before)["model"]

    def test_told_twice_as_by_another_try_it_is_written_once(
        self, recommend: Callable[..., Any], toys: Path
    ) -> None:
        section = recommend(write=True)["yaml"]
        written = toys.read_text()
        assert yaml.safe_load(written)["model"] == yaml.safe_load(section)["model"]
        recommend(write=True)
        assert toys.read_text() == written

    def test_a_model_that_was_changed_meanwhile_stays_and_fails_the_task(
        self, recommend: Callable[..., Any], toys: Path, notes: list[str], storage: Storage
    ) -> None:
        toys.write_text(toys.read_text().replace("epochs: 3", "epochs: 4"))
        with pytest.raises(AirflowFailException, match="its `model` is not the one that was compared"):
            recommend(write=True)
        assert read_classifier(toys).model.epochs == 4
        assert len(notes) == 1
        assert storage.exists("gs://graft/classifiers/toys/comparison.yaml")

    def test_a_file_that_is_gone_is_named(self, recommend: Callable[..., Any], toys: Path) -> None:
        toys.unlink()
        with pytest.raises(AirflowFailException, match="No file of a classifier directory is toys's"):
            recommend(write=True)


@pytest.mark.usefixtures("dataset")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classifier": "toy"}, "toy"),
        ({"backbones": ["lite9"]}, "UnknownBackbone: There is no backbone 'lite9'"),
        ({"backbones": "efficientnet_lite0"}, "`backbones` is a list of names"),
        ({"heads": ["tree"]}, "`heads` are of dense, logistic"),
        ({"parameters": {"model.epochs": 3}}, r"`parameters` has a list of values for each name"),
        ({"parameters": {"model.epochs": [0]}}, r"model\.epochs"),
        ({"parameters": {"gate.min_accuracy": [0.1]}}, "cannot be compared"),
    ],
)
def test_what_cannot_be_compared_fails_the_plan(
    plan: Callable[..., Any], engine: FakeMLEngine, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        plan(**given)
    assert not engine.jobs


@pytest.mark.usefixtures("toys")
def test_a_classifier_without_pictures_is_named(plan: Callable[..., Any], storage: Storage) -> None:
    with pytest.raises(AirflowFailException, match="toys has no dataset version .* `graft run toys`"):
        plan(backbones=["efficientnet_lite0"])
