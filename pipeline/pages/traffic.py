"""How many predictions each model answers, from the engine's own metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

PREDICTIONS = "graft_model_predictions_total"


def count_predictions(metrics: str) -> dict[str, int]:
    """Return how many predictions each model has answered for clients since it was made.

    Args:
        metrics: Prometheus's text format.
    """
    counts: dict[str, int] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == PREDICTIONS:
                counts[sample.labels["model"]] = int(sample.value)
    return counts
