"""The result of a run: what `graft run` prints, as JSON and as text, and its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from urllib.parse import quote

from pipeline.artifacts.run_summary import Outcome, RunSummary
from pipeline.cli.output import ExitCode, print_text
from pipeline.cli.tables import print_table
from pipeline.types import JsonDict

KEYS = ("classifier", "run_id", "state", "dataset", "work", "evaluation", "gate", "version")
OPTIONAL_KEYS = ("skipped", "expect")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended.

    Args:
        classifier: The classifier.
        run_id: The run.
        summary: What it left behind; None if it failed.
        error: The task that failed and its error; empty if none did.
        seconds: How long each stage took that ran.
    """

    classifier: str
    run_id: str
    summary: RunSummary | None = None
    error: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def state(self) -> Outcome:
        """How the run ended, in a word."""
        return Outcome.FAILED if self.summary is None else self.summary.state

    @property
    def version(self) -> str | None:
        """The version that the run left behind, if any."""
        return None if self.summary is None else self.summary.version

    @property
    def exit_code(self) -> ExitCode:
        """0 for a version that serves, 1 for a failed run, 3 for one that ended well without a version."""
        summary = self.summary
        if summary is None:
            return ExitCode.ERROR
        if summary.skipped:
            return ExitCode.OK  # what serves is what this run would have made
        is_refused = summary.gate is not None and not summary.gate.accepted
        ended = is_refused or summary.state in (Outcome.SUPERSEDED, Outcome.REJECTED, Outcome.SKIPPED)
        return ExitCode.NOT_DEPLOYED if ended else ExitCode.OK

    def to_dict(self) -> JsonDict:
        """Return what `graft run --json` prints."""
        if self.summary is None:
            ended = {"classifier": self.classifier, "run_id": self.run_id, "state": str(self.state)}
            return {**dict.fromkeys(KEYS), **ended, "error": self.error, "seconds": dict(self.seconds)}
        value = self.summary.to_dict()
        kept = {key: value[key] for key in (*KEYS, *OPTIONAL_KEYS) if key in value}
        return {**kept, "seconds": dict(self.seconds)}


def print_result(result: RunResult, pages: str) -> None:
    """Print the result of a run as text.

    Args:
        result: The result.
        pages: Address of Graft's pages, without a trailing slash.
    """
    print_text(f"Run {result.run_id} of {result.classifier}: {result.state}")
    if result.error:
        print_text(f"  {result.error}")
    if result.summary is not None:
        _print_summary(result.summary)
    if result.seconds:
        print_table(
            ("stage", "seconds"), [(name, f"{seconds:.1f}") for name, seconds in result.seconds.items()]
        )
    _print_next_steps(result, pages)


def _print_summary(summary: RunSummary) -> None:
    print_text(f"  dataset    {summary.dataset.version}: {summary.dataset.pictures} pictures")
    print_table(("class", "pictures"), summary.dataset.classes.items())
    for reason in summary.expect.reasons if summary.expect else ():
        print_text(f"  data gate  {reason}")
    counts = asdict(summary.work)
    print_text("  work       " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if evaluation := summary.evaluation:
        low, high = evaluation.accuracy_ci95
        print_text(
            f"  accuracy   {evaluation.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), "
            f"loss {evaluation.loss:.4f}, {evaluation.test_pictures} test pictures"
        )
    if gate := summary.gate:
        print_text(f"  gate       {'accepted' if gate.accepted else 'refused'}")
        for reason in gate.reasons:
            print_text(f"             {reason}")
        if approval := gate.approval:
            verb = "approved" if approval.approved else "rejected"
            print_text(f"  {verb:<9}  by {approval.by}: {approval.reason or 'no reason given'}")
    print_text(f"  version    {summary.version or 'none'}")


def _print_next_steps(result: RunResult, pages: str) -> None:
    name, summary = result.classifier, result.summary
    if summary is not None and summary.evaluation is not None and not summary.skipped:
        print_text(f"  report     {pages}/runs/{name}/{quote(result.run_id, safe='')}")
    print_text(f"  page       {pages}/classifiers/{name}")
    print_text(f"  next       {_next_command(result)}")


def _next_command(result: RunResult) -> str:
    name = result.classifier
    if result.state is Outcome.FAILED:
        return f"graft logs {result.run_id}"
    if result.version:
        return f"graft predict {name} FILE..."
    if result.state is Outcome.SUPERSEDED:
        return f"graft history {name}"
    if result.state is Outcome.SKIPPED:
        return f"graft dataset diff {name}"
    return f"graft open {name}"
