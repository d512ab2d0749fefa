"""A trainer that minimises Branin's function, and the rules that its studies keep."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.integration.engine_process import EngineProcess
from tests.packages import wheel

MINIMUM = 0.397887
# What cloudml-hypertune does: the whole file is written again for each value. The soak test has the library.
REPORTER = """
import json, os

class HyperTune:
    def __init__(self):
        self.lines = []

    def report_hyperparameter_tuning_metric(self, hyperparameter_metric_tag, metric_value, global_step):
        line = {"trial": os.environ["CLOUD_ML_TRIAL_ID"], hyperparameter_metric_tag: str(metric_value)}
        self.lines.append(json.dumps(line | {"global_step": str(global_step)}))
        with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "w") as file:
            file.write("\\n".join(self.lines) + "\\n")
"""
PROGRAM = """
import argparse, json, math, os, time
from pathlib import Path
import hypertune

parser = argparse.ArgumentParser()
for name in ("x", "y", "seconds"):
    parser.add_argument(f"--{name}", type=float, default=0)
parser.add_argument("--job-dir")
args = parser.parse_args()
b, c, t = 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
value = (args.y - b * args.x**2 + c * args.x - 6) ** 2 + 10 * (1 - t) * math.cos(args.x) + 10
task = json.loads(os.environ["TF_CONFIG"])["task"]
print("trial", os.environ["CLOUD_ML_TRIAL_ID"], task["trial"], flush=True)
time.sleep(args.seconds)
report = hypertune.HyperTune()
for step in (1, 2):
    report.report_hyperparameter_tuning_metric("branin", value + (2 - step), step)
folder = Path(args.job_dir.replace("gs://graft", os.environ["GRAFT_BUCKETS"].partition("=")[2]))
(folder / f"ran-{os.getpid()}.json").write_text(json.dumps(value))
"""


def stage(engine: EngineProcess, reporter: str | None = REPORTER) -> str:
    """Stage the trainer; without a reporter of its own it needs the library."""
    files = {"branin/__init__.py": "", "branin/task.py": PROGRAM}
    uri = "gs://graft/packages/branin-1-py3-none-any.whl"
    more = {"hypertune.py": reporter} if reporter else {}
    requires = [] if reporter else ["cloudml-hypertune==0.1.0.dev6"]
    engine.storage.write_bytes(uri, wheel("branin", files | more, requires=requires))
    return uri


def study(job_id: str, uri: str, *, seconds: float = 0, **changes: Any) -> dict[str, Any]:
    """The request of a tuning job."""
    number = {"type": "DOUBLE", "scaleType": "UNIT_LINEAR_SCALE"}
    spec = {
        "goal": "MINIMIZE",
        "hyperparameterMetricTag": "branin",
        "params": [
            {"parameterName": "x", "minValue": -5, "maxValue": 10, **number},
            {"parameterName": "y", "minValue": 0, "maxValue": 15, **number},
        ],
        **changes,
    }
    value = {
        "packageUris": [uri],
        "pythonModule": "branin.task",
        "args": ["--seconds", str(seconds)],
        "region": "local",
        "jobDir": f"gs://graft/jobs/{job_id}",
        "hyperparameters": spec,
    }
    return {"jobId": job_id, "trainingInput": value}


def check_runs(engine: EngineProcess, job: dict[str, Any]) -> None:
    """Hold that each trial ran once, in its own sub-directory, and that its result is the one reported."""
    trials = job["trainingOutput"]["trials"]
    folder = Path(engine.home) / "buckets" / "graft" / "jobs" / job["jobId"]
    runs = Counter(path.parent.name for path in folder.glob("*/ran-*.json"))
    assert runs == {trial["trialId"]: 1 for trial in trials}
    for trial in trials:
        [result] = (folder / trial["trialId"]).glob("ran-*.json")
        assert trial["finalMetric"] == {
            "trainingStep": "2",
            "objectiveValue": json.loads(result.read_text()),
        }
        assert trial["state"] == "SUCCEEDED"
    values = [trial["finalMetric"]["objectiveValue"] for trial in trials]
    assert values == sorted(values)
    assert job["trainingOutput"]["completedTrialCount"] == str(len(trials))
