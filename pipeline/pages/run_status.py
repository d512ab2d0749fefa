"""How a run ended, in a word and a line."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.artifacts.run_summary import Outcome, RunSummary
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.schedule import Run

TONES = {"deployed": "good", "refused": "bad", "rejected": "bad", "failed": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How a run ended.

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
    """Return how a run ended, from the objects that it left; its state is all there is without them."""
    summary = cache.summary(name, run.run_id)
    if summary is not None and run.state != "failed":
        return _ended(summary)
    evaluated = cache.evaluated(name, run.run_id)
    if evaluated is None:
        return RunStatus(word=_state_word(run.state))
    reasons = "; ".join(evaluated.reasons)
    waits = run.state in ("running", "queued")
    word = ("waiting" if evaluated.accepted else "refused") if waits else _state_word(run.state)
    reason = reasons or ("the gate accepted it; it is not deployed yet" if waits else "")
    return RunStatus(word=word, reason=reason, accuracy=evaluated.accuracy, has_report=True)


def _ended(summary: RunSummary) -> RunStatus:
    is_deployed = summary.state is Outcome.SUCCESS
    return RunStatus(
        word="deployed" if is_deployed else str(summary.state),
        reason="" if is_deployed else summary.line.partition(": ")[2],
        accuracy=summary.evaluation.accuracy if summary.evaluation else None,
        version=summary.version,
        has_report=summary.state is not Outcome.SKIPPED and summary.evaluation is not None,
    )


def _state_word(state: str) -> str:
    return {"success": "ended"}.get(state, state)
