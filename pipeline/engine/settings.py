"""The settings of the engine; every variable starts with `GRAFT_ENGINE_`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from pipeline.config.environment import EnvironmentSettings
from pipeline.pixels.spec import MAX_PIXELS

CORES_A_PROCESS = 8


class EngineSettings(EnvironmentSettings):
    """Limits of one engine."""

    model_config = SettingsConfigDict(env_prefix="GRAFT_ENGINE_", extra="ignore", frozen=True)

    address: str = Field(
        "",
        pattern=r"^(https?://[^/]+)?$",
        description="Where other engines of one PostgreSQL database reach this one, `http://HOST:PORT`; "
        "empty: the host and port it listens on.",
    )
    max_body_bytes: int = Field(
        10_000_000, ge=1024, description="Largest request body; v1's own was 1,572,864."
    )
    backend: Literal["local", "ray"] = Field(
        "local", description="Where training jobs run: processes of this machine, or a Ray cluster."
    )
    ray_address: str = Field(
        "",
        pattern=r"^(https?://[^/@]+/?)?$",
        description="The dashboard of the Ray cluster, `http://HOST:8265`.",
    )
    ray_token_file: Path | None = Field(None, description="A file that holds the token of the Ray cluster.")
    ray_python: str = Field(
        "python", description="The interpreter of Ray's nodes that has Graft, as their shell finds it."
    )
    ray_driver_python: str = Field(
        "",
        description="The interpreter of Ray's nodes that has Ray, for jobs with several replicas; empty: "
        "that of `GRAFT_ENGINE_RAY_PYTHON`.",
    )
    ray_shares_directories: bool = Field(
        False,
        description="Whether Ray's nodes have the directories that `GRAFT_BUCKETS` maps: this machine's "
        "own cluster, or a file system that all of them mount.",
    )
    training_slots: int = Field(1, ge=1, description="How many training jobs run at a time.")
    prediction_slots: int = Field(1, ge=1, description="How many batch prediction jobs run at a time.")
    max_json_depth: int = Field(64, ge=8, le=200, description="How deeply a request's JSON may be nested.")
    max_instances: int = Field(10_000, ge=1, description="Most instances in one online prediction.")
    max_models: int = Field(5000, ge=1, description="Most models of the project.")
    max_versions: int = Field(10_000, ge=1, description="Most versions of the project, over all models.")
    max_version_changes: int = Field(
        10, ge=1, description="Most versions that are being created or deleted at the same time."
    )
    max_version_files: int = Field(1000, ge=1, description="Most files of a version.")
    job_creations_per_minute: int = Field(60, ge=1, description="Most jobs created in a minute.")
    requests_per_minute: int = Field(
        6000, ge=1, description="Most requests in a minute that are no predictions; v1's own was 300."
    )
    predictions_per_minute: int = Field(600_000, ge=1, description="Most online predictions in a minute.")
    feedback_per_minute: int = Field(600, ge=1, description="Most pictures of feedback in a minute.")
    max_feedback: int = Field(
        10_000, ge=1, description="Most pictures of feedback that are kept of a classifier."
    )
    job_memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory of a training job; 0: its slot's share of four fifths of the machine's.",
    )
    job_cpus: int = Field(0, ge=0, description="Processors a training job may use; 0: all of them.")
    job_processes: int = Field(
        4096, ge=1, description="Processes of a training job; with a control group its threads count too."
    )
    job_nice: int = Field(5, ge=0, le=19, description="How much a training job gives way to predictions.")
    job_restarts: int = Field(
        2, ge=0, le=10, description="How often a program that a signal ended is started again."
    )
    job_log_bytes: int = Field(
        100_000_000, ge=10_000, description="Largest log of a job; of a longer one the middle is cut."
    )
    max_connections: int = Field(
        1000, ge=1, description="Most connections; one more closes the oldest one that waits for its client."
    )
    header_seconds: float = Field(
        20, gt=0, description="How long the headers of a request may take to arrive."
    )
    body_seconds: float = Field(60, gt=0, description="How long the body of a request may take to arrive.")
    read_seconds: float = Field(
        60, gt=0, description="How long a client may read nothing of an answer that waits for it."
    )
    max_package_bytes: int = Field(250_000_000, ge=1, description="Largest file that packageUris may name.")
    package_index: str = Field(
        "",
        description="Where pip finds what packages require: a URL, `none`, or empty for its own settings.",
        repr=False,
    )
    job_reads: str = Field(
        "",
        description="What jobs may read besides their own buckets: gs:// URIs and paths, with commas.",
    )
    job_paths: Literal["local", "gs"] = Field(
        "local",
        description="What jobs get for the gs:// URIs in their arguments whose bucket is a directory here: "
        "`local` paths, or `gs`, the URIs themselves.",
    )
    allow_model_ops: str = Field(
        "",
        description="Operations of TensorFlow, with commas, that models may use although they touch files.",
    )
    runtime_aliases: str = Field(
        "",
        description="Runtimes that stand for others, for jobs too: `1.15=2.21,2.1=2.21`. Versions of older "
        "ones are served without it.",
    )
    sandbox: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Landlock around jobs and models: `auto` where the kernel has it, `required` or `off`.",
    )
    cancel_grace_seconds: float = Field(
        10, gt=0, le=600, description="How long a cancelled job may tidy up between SIGTERM and SIGKILL."
    )
    worker_start_seconds: float = Field(
        180, gt=0, description="How long a model may take to load and warm up before its version fails."
    )
    predict_wait_seconds: float = Field(
        50, gt=0, description="How long a prediction waits for a version that is being loaded again."
    )
    predict_deadline_seconds: float = Field(
        60, gt=0, description="How long a prediction may take once its version is loaded; then it is a 504."
    )
    batch_chunk_seconds: float = Field(
        600,
        gt=0,
        description="How long a model may answer nothing while it has a part of a batch prediction.",
    )
    max_requests: int = Field(
        256, ge=1, description="Most predictions of a version at the same time; one more is a 429."
    )
    max_request_bytes: int = Field(
        256_000_000, ge=1024, description="Most bytes of the bodies of a version's predictions under way."
    )
    idle_seconds: float = Field(
        300,
        gt=0,
        description="After how long without a prediction a version with a process of its own and `minNodes` "
        "0 is unloaded; after how long without a version a trunk is ended.",
    )
    request_log_seconds: float = Field(
        10, gt=0, description="Between two writings of logged predictions (`requestLoggingConfig`)."
    )
    warm_versions: int = Field(
        1,
        ge=0,
        description="How many versions with a process of their own stay loaded besides each model's default "
        "and former default.",
    )
    lanes: int = Field(  # the name of the variable, which stays
        0, ge=0, le=256, description="Worker threads of a trunk process; 0 is its share of the cores."
    )
    trunk_processes: int = Field(
        0, ge=0, le=256, description="Processes of each trunk; 0 is one for each eight cores."
    )
    head_bytes: int = Field(
        1_000_000_000,
        ge=0,
        description="Most memory of a trunk's heads; those not used for longest are read again when needed.",
    )
    feature_bytes: int = Field(
        64_000_000, ge=0, description="Most memory of the features of pictures that a trunk remembers."
    )
    max_batch: int = Field(8, ge=1, le=256, description="Most pictures in one forward pass.")
    max_picture_bytes: int = Field(10_000_000, ge=1024, description="Largest encoded picture.")
    max_picture_pixels: int = Field(
        MAX_PIXELS, ge=1, le=MAX_PIXELS, description="Most pixels in a picture that is predicted."
    )

    @property
    def num_trunk_processes(self) -> int:
        """How many processes each trunk has: the interpreter lock of one serves about eight threads."""
        return self.trunk_processes or -(-_num_cores() // CORES_A_PROCESS)

    @property
    def num_trunk_threads(self) -> int:
        """How many worker threads each process of a trunk has."""
        return self.lanes or -(-_num_cores() // self.num_trunk_processes)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))
