"""The resources of ML Engine v1 as its JSON spells them; a field that v1 leaves out is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Required, TypedDict

from pipeline.types import JsonObject


class TrainingInput(TypedDict, total=False):
    """What a training job runs."""

    scaleTier: str
    region: str
    packageUris: Sequence[str]
    pythonModule: str
    args: Sequence[str]
    jobDir: str
    runtimeVersion: str
    pythonVersion: str
    scheduling: Mapping[str, str]
    masterType: str
    masterConfig: JsonObject
    serviceAccount: str
    hyperparameters: JsonObject


class PredictionInput(TypedDict, total=False):
    """What a batch prediction job reads, and which model it asks."""

    dataFormat: str
    outputDataFormat: str
    region: str
    inputPaths: Sequence[str]
    outputPath: str
    uri: str
    modelName: str
    versionName: str
    runtimeVersion: str
    signatureName: str
    maxWorkerCount: int


class PredictionOutput(TypedDict, total=False):
    """What a batch prediction job wrote; counts are decimal text."""

    outputPath: str
    predictionCount: str
    errorCount: str
    nodeHours: float


class TrialMetric(TypedDict):
    """A metric that a trial reported; the step is decimal text."""

    trainingStep: str
    objectiveValue: float


class HyperparameterTrial(TypedDict, total=False):
    """A trial of a hyperparameter tuning job."""

    trialId: Required[str]
    hyperparameters: Required[Mapping[str, str]]
    state: Required[str]
    finalMetric: TrialMetric
    isTrialStoppedEarly: bool
    startTime: str
    endTime: str


class TrainingOutput(TypedDict, total=False):
    """What a training job found; only a hyperparameter tuning job has any of it."""

    completedTrialCount: str
    trials: Sequence[HyperparameterTrial]
    isHyperparameterTuningJob: bool
    hyperparameterMetricTag: str


class Job(TypedDict, total=False):
    """A job, submitted or to be submitted."""

    jobId: Required[str]
    labels: Mapping[str, str]
    trainingInput: TrainingInput
    predictionInput: PredictionInput
    state: str
    errorMessage: str
    createTime: str
    startTime: str
    endTime: str
    etag: str
    jobPosition: str
    trainingOutput: TrainingOutput
    predictionOutput: PredictionOutput


class Version(TypedDict, total=False):
    """A version of a model; `name` is short in a request and full in an answer."""

    name: Required[str]
    deploymentUri: str
    runtimeVersion: str
    pythonVersion: str
    framework: str
    description: str
    labels: Mapping[str, str]
    state: str
    errorMessage: str
    isDefault: bool
    createTime: str
    lastUseTime: str
    etag: str


class Model(TypedDict, total=False):
    """A model; `name` is short in a request and full in an answer."""

    name: Required[str]
    description: str
    labels: Mapping[str, str]
    defaultVersion: Version
    etag: str


class Status(TypedDict, total=False):
    """Why an operation failed."""

    code: int
    message: str


class Operation(TypedDict, total=False):
    """A change of a model or a version that takes time."""

    name: Required[str]
    done: bool
    error: Status
