"""The study of a classifier's `model.tune`: a hyperparameter tuning job whose trials are cross-validations.

The job is named by all that it does, so that a task that is tried again, or another run on the same pictures,
finds it. A study that was cancelled or failed goes on in a new job, which resumes the old one's trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.workspace import Workspace
from pipeline.config.tune import REAL, WHOLE, WORDS, RangeConfig, TuneConfig, Value
from pipeline.errors import PlatformError
from pipeline.ml_engine.jobs import MAX_ATTEMPTS, job_id_of, training_job
from pipeline.ml_engine.protocol import MLEngine
from pipeline.ml_engine.resources import HyperparameterTrial, Job
from pipeline.ml_v1 import RUNTIME_VERSION, JobState
from pipeline.types import JsonDict, JsonObject

MODULE = "pipeline.trainer.study_trial"
FLAGS = {name: name.rpartition(".")[2].replace("_", "-") for name in (*REAL, *WHOLE, *WORDS)}
SCALES = {"linear": "UNIT_LINEAR_SCALE", "log": "UNIT_LOG_SCALE"}
GOALS = {"loss": "MINIMIZE", "accuracy": "MAXIMIZE"}
ALGORITHMS = {"bayesian": "ALGORITHM_UNSPECIFIED", "random": "RANDOM_SEARCH", "grid": "GRID_SEARCH"}


def parameter_specs(tune: TuneConfig) -> list[JsonObject]:
    """Return `hyperparameters.params` of v1."""
    return [
        {"parameterName": FLAGS[name], **_space(name, choice)} for name, choice in tune.parameters.items()
    ]


def _space(name: str, choice: RangeConfig | tuple[Value, ...]) -> JsonObject:
    if isinstance(choice, RangeConfig):
        return {
            "type": "INTEGER" if name in WHOLE else "DOUBLE",
            "minValue": choice.min,
            "maxValue": choice.max,
            "scaleType": SCALES[choice.scale],
        }
    if name in WORDS:
        return {"type": "CATEGORICAL", "categoricalValues": list(choice)}
    return {"type": "DISCRETE", "discreteValues": sorted(map(float, choice))}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTrial:
    """A trial of a job that has ended.

    Args:
        job_id: The job.
        directory: Where the trial wrote.
        trial: How v1 shows it.
    """

    job_id: str
    directory: JobDirectory
    trial: HyperparameterTrial

    @property
    def has_succeeded(self) -> bool:
        """Whether it has a figure."""
        return self.trial["state"] == JobState.SUCCEEDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study that can be submitted.

    Args:
        workspace: Where its trials write.
        engine: Where it runs.
        classifier: Name of the classifier.
        dataset_version: Whose training pictures judge.
        tune: What it varies.
        package_uri: The trainer package.
        args: The command line of a training job; a trial's parameters follow it.
        max_running_seconds: How long it may take.
        labels: Of its job, beside those that every study has.
    """

    workspace: Workspace
    engine: MLEngine
    classifier: str
    dataset_version: str
    tune: TuneConfig
    package_uri: str
    args: Sequence[str]
    max_running_seconds: int
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What names the work."""
        section, seconds = self.tune.model_dump_json(), str(self.max_running_seconds)
        return ("tune", self.classifier, self.package_uri, RUNTIME_VERSION, seconds, section, *self.args)

    def make_id(self, attempt: int) -> str:
        """Return the id of the n-th job of this study."""
        return job_id_of(*self.key, attempt=attempt)

    def make_body(self, job_id: str) -> Job:
        """Return the job with an id: a new study, or the rest of the one before."""
        body = training_job(
            job_id,
            package_uri=self.package_uri,
            module=MODULE,
            args=self.args,
            job_dir=self.workspace.job(job_id).uri,
            runtime_version=RUNTIME_VERSION,
            labels={**self.labels, "classifier": self.classifier, "step": "tune"},
            max_running_seconds=self.max_running_seconds,
        )
        body["trainingInput"]["hyperparameters"] = self._hyperparameters(job_id)
        return body

    def _hyperparameters(self, job_id: str) -> JsonObject:
        if existing := self.engine.get_job(job_id):  # what it resumes was decided when it was submitted
            return existing["trainingInput"]["hyperparameters"]
        tune, previous = self.tune, self._previous(job_id)
        num_done = self.num_judged(previous) if previous else 0
        spec: JsonDict = {
            "goal": GOALS[tune.goal],
            "hyperparameterMetricTag": tune.goal,
            "params": parameter_specs(tune),
            "maxTrials": max(1, tune.trials - num_done),
            "maxParallelTrials": tune.parallel,
            "algorithm": ALGORITHMS[tune.search],
        }
        return {**spec, "resumePreviousJobId": previous["jobId"]} if previous and num_done else spec

    def _previous(self, job_id: str) -> Job | None:
        """Return the job whose trials one goes on with: the attempt before it, if that was lost."""
        attempt = next(each for each in range(MAX_ATTEMPTS) if self.make_id(each) == job_id)
        job = self.engine.get_job(self.make_id(attempt - 1)) if attempt else None
        return job if job and JobState(job["state"]).is_lost and self.is_readable(job) else None

    def trials(self, last: Job) -> Iterator[FinishedTrial]:
        """Yield the trials of a job and of those that it resumes, the last job first.

        Raises:
            PlatformError: if one of the jobs is gone.
        """
        job: Job | None = last
        while job is not None:
            directory = JobDirectory(self.workspace.storage, job["trainingInput"]["jobDir"])
            for trial in job.get("trainingOutput", {}).get("trials", ()):
                yield FinishedTrial(
                    job_id=job["jobId"], directory=directory.run(int(trial["trialId"])), trial=trial
                )
            job = self._resumed(job)

    def num_judged(self, last: Job) -> int:
        """Return how many trials of a job, and of those that it resumes, have succeeded."""
        return sum(each.has_succeeded for each in self.trials(last))

    def is_readable(self, last: Job) -> bool:
        """Return whether what the trials have left is still in the bucket."""
        exists = self.workspace.storage.exists
        return all(exists(each.directory.trial) for each in self.trials(last) if each.has_succeeded)

    def _resumed(self, job: Job) -> Job | None:
        resumed = job["trainingInput"]["hyperparameters"].get("resumePreviousJobId")
        if not resumed:
            return None
        earlier = self.engine.get_job(str(resumed))
        if earlier is None:
            raise PlatformError(f"Job {resumed}, whose trials belong to a study, is gone.", job_id=resumed)
        return earlier
