"""How many predictions each model answers, from the engine's own metrics."""

from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

PREDICTIONS = "graft_predictions_total"


def count_predictions(metrics: str) -> dict[str, int]:
    """Return how many predictions each model has answered since the engine started, refused ones left out.

    Args:
        metrics: Prometheus's text format.
    """
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == PREDICTIONS and sample.labels.get("code") == "200":
                counts[sample.labels["model"]] += int(sample.value)
    return dict(counts)
