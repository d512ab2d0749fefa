"""The environment, the memory and the processors of a job."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import psutil

from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.access import METRICS
from pipeline.engine.backends.installer import INDEX, environment_path
from pipeline.engine.sandbox.system import source_directory
from pipeline.engine.settings import EngineSettings
from pipeline.types import JsonObject

MARK = "GRAFT_ENGINE_JOB"  # marks all processes of a job, in any session
METRIC_FILE = f"{METRICS}/output.metrics"  # cloudml-hypertune's name
PASSED_ON = frozenset(
    "PATH HOME LANG LC_ALL TZ TMPDIR LD_LIBRARY_PATH GRAFT_HOME GRAFT_BUCKETS GRAFT_BUCKET "
    "GOOGLE_APPLICATION_CREDENTIALS".split()
)
PASSED_PREFIXES = ("TF_", "OMP_", "KMP_", "KERAS_", "CUDA_")
PIP_PREFIXES = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT", "REQUESTS_CA")
MEMORY_SHARE = 0.8  # of the machine's, for all jobs together, where no limit is set
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _passed(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value for key, value in environ.items() if key in PASSED_ON or key.startswith(PASSED_PREFIXES)
    }


def job_environment(job: TrainingJob, directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a job: no secrets, its own packages first."""
    trial = {"CLOUD_ML_TRIAL_ID": job.trial_id, "CLOUD_ML_HP_METRIC_TAG": job.metric_tag}
    return (
        _passed(environ)
        | (trial if job.trial_id else {})
        | {
            "CLOUD_ML_JOB_ID": job.job_id,
            "CLOUD_ML_HP_METRIC_FILE": str(directory / METRIC_FILE),
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHONPATH": os.pathsep.join([str(directory / "site"), str(environment_path(directory))]),
            "PYTHONUNBUFFERED": "1",
            "TF_CONFIG": json.dumps(tf_config(job)),
            "TF_ENABLE_ONEDNN_OPTS": "1",
            MARK: str(directory),
        }
    )


def tf_config(job: TrainingJob) -> JsonObject:
    """Return the `TF_CONFIG` of a replica, or of a job that has one, the master, at an address of its own."""
    if job.tf_config is not None:
        return job.tf_config
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    return {
        "cluster": {"master": [address]},
        "environment": "cloud",
        "job": job.training_input,
        "task": {"type": "master", "index": 0, "trial": job.trial_id},
    }


def supervisor_environment(
    directory: Path, settings: EngineSettings, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the supervisor and the installer: this source, and pip's settings."""
    pip = {key: value for key, value in environ.items() if key.upper().startswith(PIP_PREFIXES)}
    return (
        pip
        | _passed(environ)
        | {
            "PYTHONPATH": str(source_directory(directory.parent.parent)),
            "TMPDIR": str(directory / "tmp"),
            "PYTHONUNBUFFERED": "1",
            INDEX: settings.package_index,
            MARK: str(directory),
        }
    )


def server_environment(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server of a job's buckets: this source, and nothing secret."""
    return {
        **{key: environ[key] for key in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if key in environ},
        "PYTHONPATH": str(source_directory(directory.parent.parent)),
        "TMPDIR": str(directory / "tmp"),
        MARK: str(directory),
    }


def memory_limit(settings: EngineSettings) -> int:
    """Return the memory of one job: the setting, or its share of this machine or container."""
    if settings.job_memory_bytes:
        return settings.job_memory_bytes
    total = psutil.virtual_memory().total
    for name in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # another kind of control groups; no limit is "max"
            total = min(total, int(Path(name).read_text()))
    return int(total * MEMORY_SHARE) // settings.training_slots


def cpu_settings(settings: EngineSettings, number: int) -> tuple[list[int], dict[str, str]]:
    """Return the processors of the n-th job, none for all, and the variables that limit its libraries."""
    if not settings.job_cpus or not hasattr(os, "sched_getaffinity"):
        return [], {}
    available = sorted(os.sched_getaffinity(0))
    count = min(settings.job_cpus, len(available))
    cpus = sorted({available[(number * count + index) % len(available)] for index in range(count)})
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return cpus, dict.fromkeys(names, str(count))
