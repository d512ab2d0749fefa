"""How a run ended, in a word and a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.artifacts.history import SERVING, withdrawn_versions
from pipeline.artifacts.run_summary import Outcome, RunSummary
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.schedule import Run

TONES = {"deployed": "good", "refused": "bad", "rejected": "bad", "failed": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How a run ended.

    Args:
        word: `deployed`, `rolled back`, `refused`, `rejected`, `superseded`, `skipped`, `failed`, `running`,
            `queued`, or `waiting` for what comes after the gate.
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

    @property
    def needs_somebody(self) -> bool:
        """Whether a person should look at it."""
        return self.word in ("failed", "refused")


def read_run_status(
    cache: ArtifactCache, name: str, run: Run, withdrawn: Mapping[str, str] | None = None
) -> RunStatus:
    """Return how a run ended, from the objects that it left; its state is all there is without them.

    Args:
        cache: The bucket.
        name: The classifier.
        run: The run.
        withdrawn: Versions that were rolled back since, with the reason.
    """
    summary = cache.summary(name, run.run_id, ended=run.ended)
    if summary is not None and run.state != "failed":
        status = _ended(summary)
        why = (withdrawn or {}).get(status.version or "")
        is_withdrawn = status.word == "deployed" and why is not None
        return replace(status, word="rolled back", reason=why or "") if is_withdrawn else status
    evaluated = cache.evaluated(name, run.run_id)
    if evaluated is None:
        return RunStatus(word=_state_word(run.state))
    reasons = "; ".join(evaluated.reasons)
    waits = run.state in ("running", "queued")
    word = ("waiting" if evaluated.accepted else "refused") if waits else _state_word(run.state)
    reason = reasons or ("the gate accepted it; it is not deployed yet" if waits else "")
    return RunStatus(word=word, reason=reason, accuracy=evaluated.accuracy, has_report=True)


def describe_ending(cache: ArtifactCache, name: str, run: Run) -> str:
    """Return in a sentence how the version of a run stands; empty while the run works or without one."""
    history, numbers = cache.numbered_history(name)
    status = read_run_status(cache, name, run, withdrawn_versions(history))
    if status.version is None or status.word not in ("deployed", "rolled back"):
        return ""
    serving = [event.version for event in history if event.event in SERVING][-1:]
    names = {version: f"v{number}" for version, number in numbers.items()}
    own = names.get(status.version, status.version)
    if status.word == "rolled back":
        return f"It made {own}, which was rolled back: {status.reason}".removesuffix(": ") + "."
    if serving == [status.version]:
        return f"It made {own}, which serves now."
    later = ", ".join(names.get(version, version) for version in serving)
    return f"It made {own}; {later or 'another version'} serves now."


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
