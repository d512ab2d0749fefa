"""What a run showed, in a sentence without terms of statistics."""

from __future__ import annotations

from pipeline.artifacts.metrics import Metrics


def describe_plainly(metrics: Metrics) -> str:
    """Return how many test pictures were right, and the class that was missed most if one was."""
    counts = {label: (row.get(label, 0), sum(row.values())) for label, row in metrics.confusion.items()}
    tested = {label: (right, total) for label, (right, total) in counts.items() if total}
    if not tested:
        return "There was no test picture."
    right, total = (sum(part) for part in zip(*tested.values(), strict=True))
    if right == total:
        return f"All {total} test pictures right."
    label, (own, support) = min(tested.items(), key=lambda item: item[1][0] / item[1][1])
    return f"{right} of {total} test pictures right. Weakest class: {label}, {own} of {support} right."
