from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.tuning import Tuning
from pipeline.artifacts.workspace import Workspace
from pipeline.compare.importance import Tried, parameter_importance
from pipeline.compare.study import Study
from pipeline.compare.tuned import count_forwarded, read_tuning
from pipeline.config.tune import TuneConfig
from pipeline.engine.v1.hyperparameters import HyperparameterSpec
from pipeline.ml_engine.jobs import submit_job
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.study import run_trials

PARAMETERS: dict[str, Any] = {
    "learning_rate": {"min": 1e-4, "max": 0.1, "scale": "log"},
    "head.units": {"min": 16, "max": 1024},
}


def study_in(folder: Path, **changes: Any) -> Study:
    tune = TuneConfig.model_validate({"parameters": PARAMETERS, "trials": 12, **changes})
    return Study(
        workspace=Workspace(Storage({"graft": folder}), "gs://graft"),
        engine=FakeMLEngine(),
        classifier="toys",
        dataset_version="d_1",
        tune=tune,
        package_uri="gs://graft/packages/p.tar.gz",
        args=["--learning-rate", "0.1"],
        max_running_seconds=60,
    )


def submit(study: Study, *, redo: bool = False) -> Any:
    return submit_job(study.engine, study.key, study.make_body, make_id=study.make_id, redo=redo)


def end(study: Study, job: Any, number: int, **options: Any) -> None:
    job.update(run_trials(job, study.workspace.storage, number, **options))


class TestTheJob:
    def test_the_engine_takes_every_kind_of_parameter(self, tmp_path: Path) -> None:
        parameters = {**PARAMETERS, "epochs": [20, "5"], "class_weights": ["none", "balanced"]}
        study = study_in(tmp_path, parameters=parameters, goal="accuracy", search="random", parallel=2)
        wanted = submit(study)["trainingInput"]["hyperparameters"]
        spec = HyperparameterSpec.model_validate(wanted)
        assert [(each.parameter_name, each.type) for each in spec.params] == [
            ("learning-rate", "DOUBLE"),
            ("units", "INTEGER"),
            ("epochs", "DISCRETE"),
            ("class-weights", "CATEGORICAL"),
        ]
        assert spec.params[0].is_logarithmic
        assert spec.params[2].discrete_values == [5, 20]
        assert (spec.goal, spec.tag, spec.algorithm) == ("MAXIMIZE", "accuracy", "RANDOM_SEARCH")
        assert (spec.num_trials, spec.num_parallel) == (12, 2)

    def test_the_same_study_is_one_job_and_another_seed_another(self, tmp_path: Path) -> None:
        study = study_in(tmp_path)
        job = submit(study)
        end(study, job, 12)
        assert submit(study) is job
        other = replace(study, tune=study_in(tmp_path, seed=1).tune)
        assert submit(other)["jobId"] != job["jobId"]

    def test_a_cancelled_study_goes_on_and_is_found_again(self, tmp_path: Path) -> None:
        study = study_in(tmp_path)
        first = submit(study)
        end(study, first, 5, state="CANCELLED")
        second = submit(study)
        wanted = second["trainingInput"]["hyperparameters"]
        assert (wanted["resumePreviousJobId"], wanted["maxTrials"]) == (first["jobId"], 7)
        end(study, second, 7, first=7)
        assert submit(study) is second
        tuning = read_tuning(study, second)
        assert [trial.number for trial in tuning.judged] != list(range(1, 13))
        assert {trial.number for trial in tuning.judged} == {*range(1, 6), *range(7, 14)}
        assert count_forwarded(study, second) == 0, "the first job paid for the features"

    @pytest.mark.parametrize("swept", [False, True])
    def test_a_study_without_readable_trials_begins_anew(self, tmp_path: Path, swept: bool) -> None:
        study = study_in(tmp_path)
        first = submit(study)
        end(study, first, 5, state="CANCELLED" if swept else "SUCCEEDED")
        if swept:
            study.workspace.storage.delete_tree(study.workspace.job(first["jobId"]).uri)
            assert not study.is_readable(first)
        second = submit(study, redo=True)
        wanted = second["trainingInput"]["hyperparameters"]
        assert (wanted.get("resumePreviousJobId"), wanted["maxTrials"]) == (None, 12)


class TestWhatItFound:
    def test_the_best_trial_comes_first_and_lost_ones_last(self, tmp_path: Path) -> None:
        study = study_in(tmp_path)
        job = submit(study)
        end(study, job, 12)
        tuning = read_tuning(study, job)
        assert tuning.best.number == 3
        assert tuning.best.parameters == {"model.learning_rate": 0.01, "model.head.units": 48}
        losses = [trial.log_loss.value for trial in tuning.judged if trial.log_loss]
        assert losses == sorted(losses)
        assert (tuning.trials[-1].state, tuning.trials[-1].log_loss) == ("FAILED", None)
        assert (tuning.pictures, tuning.folds) == (110, 5)
        assert count_forwarded(study, job) == 10
        assert Tuning.from_dict(tuning.to_dict()) == tuning
        reference = tuning.reference("gs://graft/t.json")
        assert (reference.trials, reference.value) == (12, losses[0])
        assert reference.line.startswith("model.learning_rate=0.01, model.head.units=48: loss 0.2")

    def test_accuracy_decides_where_it_is_the_goal(self, tmp_path: Path) -> None:
        study = study_in(tmp_path, goal="accuracy")
        job = submit(study)
        end(study, job, 12)
        tuning = read_tuning(study, job)
        values = [trial.accuracy.value for trial in tuning.judged if trial.accuracy]
        assert values == sorted(values, reverse=True)
        assert tuning.optimism >= 0


class TestImportance:
    def tried(self, number: int = 12) -> list[Tried]:
        return [
            Tried(values={"rate": 10.0**-place, "units": place * 7 % 5}, figure=float(place))
            for place in range(number)
        ]

    def test_shares_add_up_and_name_what_matters_first(self) -> None:
        shares = parameter_importance(self.tried(), logarithmic={"rate"}, seed=0)
        assert sum(shares.values()) == pytest.approx(1)
        assert next(iter(shares)) == "rate"
        assert shares["rate"] > 0.8
        assert parameter_importance(self.tried(), logarithmic={"rate"}, seed=0) == shares

    def test_few_or_equal_trials_have_none(self) -> None:
        assert parameter_importance(self.tried(7), logarithmic=(), seed=0) == {}
        equal = [replace(each, figure=1.0) for each in self.tried()]
        assert parameter_importance(equal, logarithmic=(), seed=0) == {}
