"""How a run ended, in a word and a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.deploy.summary import RunState, outcome_line
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.schedule import Run

TONES = {"deployed": "good", "refused": "bad", "rejected": "bad", "failed": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """What came of a run.

    Args:
        word: `deployed`, `refused`, `rejected`, `superseded`, `skipped`, `failed`, `running`, `queued`, or
            `waiting` for what comes after the gate.
        reason: Why, in one line; empty where there is nothing to say.
        accuracy: Of the candidate, once it is evaluated.
        version: What the run left behind, if anything.
        has_report: Whether there is a report to read.
    """

    word: str
    reason: str = ""
    accuracy: float | None = None
    version: str | None = None
    has_report: bool = False

    @property
    def tone(self) -> str:
        """`good`, `bad` or neither."""
        return TONES.get(self.word, "")


def read_run_status(cache: ArtifactCache, name: str, run: Run) -> RunStatus:
    """Return what came of a run, from the objects that it left; its state is all there is without them."""
    summary = cache.of_run(name, run.run_id, "summary.json")
    if summary is not None and run.state != "failed":
        return _ended(summary)
    evaluated = cache.of_run(name, run.run_id, "evaluated.json")
    if evaluated is None:
        return RunStatus(word=_state_word(run.state))
    reasons = "; ".join(evaluated["reasons"])
    waits = run.state in ("running", "queued")
    word = ("waiting" if evaluated["accepted"] else "refused") if waits else _state_word(run.state)
    reason = reasons or ("the gate accepted it; it is not deployed yet" if waits else "")
    return RunStatus(word=word, reason=reason, accuracy=evaluated["accuracy"], has_report=True)


def _ended(summary: Mapping[str, Any]) -> RunStatus:
    state = RunState(summary["state"])
    is_deployed = state is RunState.SUCCESS
    return RunStatus(
        word="deployed" if is_deployed else str(state),
        reason="" if is_deployed else outcome_line(summary).partition(": ")[2],
        accuracy=(summary["evaluation"] or {}).get("accuracy"),
        version=summary["version"],
        has_report=state is not RunState.SKIPPED,
    )


def _state_word(state: str) -> str:
    return {"success": "ended"}.get(state, state)
