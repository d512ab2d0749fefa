"""How far a run is: its steps, how long each took, and how long the others took before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.ml_v1 import JobState
from pipeline.pages.schedule import Task
from pipeline.pages.sparkline import Sparkline, draw_epochs

if TYPE_CHECKING:
    from pipeline.ml_engine.resources import Job

FIGURE = re.compile(r"(\w+) (\d+(?:\.\d+)?(?:e-?\d+)?)(?:,|$)")
EPOCH = re.compile(r"epoch (\d+) of (\d+)((?:, training \d of \d)?: .+)")  # as a training job logs it

STEPS = {
    "settle": "waits for further events",
    "fetch": "downloads the pictures that are new",
    "clean": "looks at every picture, and makes the dataset version",
    "pack": "scales the pictures to the network's size",
    "tune": "tries parameters, and finds the best ones by cross-validation",
    "train": "trains the head",
    "evaluate": "predicts the test pictures as they would be served",
    "gate": "decides, and writes the report",
    "approve": "asks a person",
    "create_version": "loads the version",
    "smoke_test": "compares what it answers with what was evaluated",
    "promote": "gives it the traffic",
    "publish": "writes the summary",
}
RANK = ("failed", "upstream_failed", "up_for_retry", "running", "deferred", "queued", "scheduled", "")
AT_WORK = {"running", "deferred", "queued", "scheduled", "up_for_retry", "restarting"}
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
UNTOUCHED = {"skipped", "upstream_failed", "removed"}  # Airflow gives them a time all the same
WORDS = {
    "success": "done",
    "deferred": "running",
    "scheduled": "queued",
    "up_for_retry": "is tried again",
    "upstream_failed": "not reached",
    "": "not yet",
}
TONES = {"success": "good", "failed": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a run.

    Args:
        name: Its name in the DAG.
        what: What it does, in words.
        state: The state of its tasks, the worst first.
        num_tasks: How many tasks it has.
        num_done: How many of them have ended.
        seconds: From the begin of the first to the end of the last, or until now; None before.
        usual_seconds: How long it took in an earlier run; None if there was none.
        tries: How often its tasks were begun, at most.
    """

    name: str
    what: str
    state: str
    num_tasks: int
    num_done: int
    seconds: float | None
    usual_seconds: float | None
    tries: int

    @property
    def word(self) -> str:
        """The state in a word for people."""
        return WORDS.get(self.state, self.state)

    @property
    def tone(self) -> str:
        """`good`, `bad` or neither."""
        return TONES.get(self.state, "")

    @property
    def is_at_work(self) -> bool:
        """Whether it is what the run does now."""
        return self.state in AT_WORK

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Args:
        steps: Its steps, in the order of the DAG.
    """

    steps: tuple[Step, ...]

    @property
    def seconds_left(self) -> float | None:
        """How long the remaining steps took in an earlier run; None if one of them has no such figure."""
        left = [step for step in self.steps if not step.has_ended and step.name != "approve"]
        if not left or any(step.usual_seconds is None for step in left):
            return None
        return sum(max(0.0, (step.usual_seconds or 0.0) - (step.seconds or 0.0)) for step in left)

    @property
    def failed(self) -> Step | None:
        """The first step that failed."""
        return next((step for step in self.steps if step.state == "failed"), None)

    @property
    def at_work(self) -> Step | None:
        """The step that works now."""
        return next((step for step in self.steps if step.is_at_work), None)


def describe_progress(tasks: Iterable[Task], earlier: Iterable[Task], *, now: datetime) -> Progress:
    """Return how far a run is.

    Args:
        tasks: Those of the run.
        earlier: Those of an earlier run that succeeded; they tell how long a step takes.
        now: The time.
    """
    usual = {name: _seconds(members, now) for name, members in _by_step(earlier).items()}
    return Progress(
        steps=tuple(_describe(name, members, usual, now) for name, members in _by_step(tasks).items())
    )


def _by_step(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Group tasks by step, in the order of the DAG; steps of somebody else's DAG come last."""
    steps: dict[str, list[Task]] = {name: [] for name in STEPS}
    for task in tasks:
        steps.setdefault(task.step, []).append(task)
    return {name: members for name, members in steps.items() if members}


def _describe(name: str, tasks: list[Task], usual: Mapping[str, float | None], now: datetime) -> Step:
    return Step(
        name=name,
        what=STEPS.get(name, ""),
        state=_worst({task.state for task in tasks}),
        num_tasks=len(tasks),
        num_done=sum(task.state in ENDED for task in tasks),
        seconds=_seconds(tasks, now),
        usual_seconds=usual.get(name),
        tries=max(task.tries for task in tasks),
    )


def _worst(states: set[str]) -> str:
    """Return the state that says most about a step; done tasks beside waiting ones are work that goes on."""
    first = next((state for state in RANK if state in states), None)
    if first is None:
        return "success" if "success" in states else min(states)
    return "running" if first in ("queued", "scheduled", "") and "success" in states else first


def _seconds(tasks: Iterable[Task], now: datetime) -> float | None:
    begun = [(task.started, task.ended) for task in tasks if task.started and task.state not in UNTOUCHED]
    if not begun:
        return None
    first = min(started for started, _ in begun)
    return (max(ended or now for _, ended in begun) - first).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is.

    Args:
        done: Epochs or trials that have ended.
        total: How many there are, at most.
        text: The same in words, with what was measured last.
        lines: What was measured over the epochs of the present training, by its name.
    """

    done: int
    total: int
    text: str
    lines: Mapping[str, Sparkline] = field(default_factory=dict)


def read_epochs(log: str) -> JobProgress | None:
    """Return how far a training is by its log; None before the end of its first epoch."""
    epochs = [match for line in log.splitlines() if (match := EPOCH.search(line))]
    if not epochs:
        return None
    done, total = map(int, epochs[-1].group(1, 2))
    return JobProgress(done=done, total=total, text=epochs[-1][0], lines=_draw_lines(epochs))


def _draw_lines(epochs: Sequence[re.Match[str]]) -> dict[str, Sparkline]:
    """Return the lines of the last training: an epoch that is not the next one begins another."""
    values: dict[str, list[float]] = {}
    last = 0
    for match in epochs:
        if int(match[1]) != last + 1:
            values = {}
        last = int(match[1])
        for name, value in FIGURE.findall(match[3]):
            values.setdefault(name, []).append(float(value))
    drawn = {name: draw_epochs(name, each) for name, each in values.items()}
    return {name: line for name, line in drawn.items() if line}


def count_trials(job: Job) -> JobProgress | None:
    """Return how far a hyperparameter tuning job is; None for another job."""
    tuning = job.get("trainingInput", {}).get("hyperparameters")
    if tuning is None:
        return None
    trials = job.get("trainingOutput", {}).get("trials", [])
    done = sum(JobState(trial["state"]).is_terminal for trial in trials)
    total = int(str(tuning.get("maxTrials", 1)))
    return JobProgress(done=done, total=total, text=f"{done} of {total} trials have ended")
