"""Parse the DAG files of 50 classifiers as the dag-processor does, and list what that imports."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CLASSIFIERS = 50
ROUNDS = 3
HEAVY = "tensorflow keras numpy PIL googleapiclient sklearn skimage scipy ray h5py requests"
YAML = """name: classifier_{number:02}
description: One of many.
dataset:
  source: {{type: folder, uri: /pictures/{number}, classes: [cat, dog]}}
gate: {{min_accuracy: 0.9, non_inferiority: {{margin: 0.02}}, slices: [size]}}
{more}
"""
# A third each: by hand, by schedule with a person's approval, by event.
MORE = ("", 'deploy: {require_approval: true}\nschedule: "@daily"', "schedule: on_dataset_change")
CODE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
before = set(sys.modules)
from graft.classifier_bundle import ClassifierBundle
def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    value = work()
    return value, time.perf_counter() - wall, time.process_time() - cpu
bundle = ClassifierBundle(name="classifiers")
_, refresh, _ = timed(bundle.initialize)
_, again, _ = timed(bundle.refresh)
bag, first, first_cpu = timed(lambda: DagBag(dag_folder=bundle.path, bundle_path=bundle.path))
assert len(bag.dags) >= COUNT and not bag.import_errors, bag.import_errors
_, warm, warm_cpu = timed(lambda: DagBag(dag_folder=bundle.path, bundle_path=bundle.path))
heavy = sorted(set(HEAVY.split()) & (set(sys.modules) - before))
print("RESULT", json.dumps([refresh, again, first, first_cpu, warm, warm_cpu, heavy]))
"""
SECTION = f"""## Parsing DAGs

{CLASSIFIERS} classifiers (a third by schedule with approval, a third by event), the two shipped ones
besides; medians of {ROUNDS} processes. *First* includes importing Graft and what it needs of Airflow, once;
the goal is under 1 s for parsing all.

| step | seconds | CPU seconds |
|---|---|---|"""
NOTES = """Load of the machine's two cores meanwhile: {load:.0f}, so CPU seconds are what counts. Heavy
libraries imported by parsing: {heavy}. The dag-processor parses each file in a process of its own, forked
with Airflow and Graft loaded; a task parses its own classifier's file only, however many there are."""


def measure() -> str:
    """Return the section."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [_parse(Path(folder), number) for number in range(ROUNDS)]
    medians = [statistics.median(round_values[column] for round_values in rounds) for column in range(6)]
    refresh, again, first, first_cpu, warm, warm_cpu = medians
    heavy = sorted({name for round_values in rounds for name in round_values[6]})
    rows = [
        f"| write the DAG files | {refresh:.3f} | |",
        f"| refresh, nothing changed | {again:.3f} | |",
        f"| parse all, first | {first:.3f} | {first_cpu:.3f} |",
        f"| parse all, again | {warm:.3f} | {warm_cpu:.3f} |",
    ]
    return "\n".join(
        [SECTION, *rows, "", NOTES.format(load=os.getloadavg()[0], heavy=", ".join(heavy) or "none")]
    )


def _parse(folder: Path, number: int) -> list:
    from tests.airflow_environment import airflow_variables

    home = folder / str(number)
    classifiers = home / "yaml"
    classifiers.mkdir(parents=True)
    for index in range(CLASSIFIERS):
        text = YAML.format(number=index, more=MORE[index % len(MORE)])
        (classifiers / f"classifier_{index:02}.yaml").write_text(text)
    environ = {
        **os.environ,
        **airflow_variables(home / "airflow"),
        "GRAFT_HOME": str(home),
        "GRAFT_CLASSIFIERS": str(classifiers),
    }
    code = CODE.replace("COUNT", str(CLASSIFIERS)).replace("HEAVY", repr(HEAVY))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    round_values: list = json.loads(line.removeprefix("RESULT "))
    return round_values
