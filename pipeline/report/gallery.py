"""The pictures of a report: each as a card with its thumbnail, its answer, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.artifacts.manifest import ManifestRow
from pipeline.explain.features import CachedFeatures
from pipeline.explain.neighbours import nearest_pictures
from pipeline.explain.thumbnails import Thumbnails
from pipeline.report.inputs import ReportInputs
from pipeline.report.label_issues import cross_validated_probabilities, find_label_issues
from pipeline.report.ranking import Answer, confused_pairs, examples_by_class
from pipeline.types import JsonDict

NUM_WORST = 12
NUM_NEIGHBOURS = 3
NUM_PAIRS = 5
NUM_OF_PAIR = 6
NUM_CHANGED = 12
NUM_ISSUES = 24
NUM_EACH = 3
MAX_CLASSES_EXPLAINED = 6


class Gallery:
    """Makes the picture sections of a report.

    Args:
        inputs: What the report is made of.
        answers: The candidate's answers, the worst first.
        thumbnails: Makes pictures small.
    """

    def __init__(self, inputs: ReportInputs, answers: Sequence[Answer], thumbnails: Thumbnails) -> None:
        self._inputs, self._answers, self._thumbnails = inputs, answers, thumbnails
        self._by_key = {answer.key: answer for answer in answers}

    def worst(self, cached: CachedFeatures | None) -> list[JsonDict]:
        """Return the pictures of the largest losses, with what they resemble among the training pictures."""
        worst = [answer for answer in self._answers if not answer.is_right][:NUM_WORST]
        directions = {answer.key: answer.row["features"] for answer in worst if "features" in answer.row}
        near = nearest_pictures(cached, directions, NUM_NEIGHBOURS) if cached else {}
        return [
            {
                **self._answered(answer),
                "heated": self._heated(answer),
                "neighbours": [
                    {**self._card(self._inputs.rows[id]), "cosine": cosine}
                    for id, cosine in near.get(answer.key, [])
                ],
            }
            for answer in worst
        ]

    def confused(self) -> list[JsonDict]:
        """Return the most frequent confusions with some of their pictures."""
        return [
            {
                "label": label,
                "predicted": predicted,
                "count": len(pictures),
                "pictures": [self._answered(answer) for answer in pictures[:NUM_OF_PAIR]],
            }
            for label, predicted, pictures in confused_pairs(self._answers, NUM_PAIRS)
        ]

    def changed(self, keys: Iterable[str]) -> list[JsonDict]:
        """Return the first of these test pictures; those gained or lost against the champion."""
        known = [self._by_key[key] for key in keys if key in self._by_key]
        return [self._answered(answer) for answer in known[:NUM_CHANGED]]

    def explained(self) -> list[JsonDict]:
        """Return right and wrong pictures of each class with what spoke for their answers."""
        with_map = [answer for answer in self._answers if "activation" in answer.row]
        found = examples_by_class(with_map, self._inputs.classes[:MAX_CLASSES_EXPLAINED], NUM_EACH)
        return [
            {
                "label": label,
                **{
                    side: [{**self._answered(answer), "heated": self._heated(answer)} for answer in answers]
                    for side, answers in zip(("right", "wrong"), sides, strict=True)
                },
            }
            for label, sides in found.items()
            if any(sides)
        ]

    def label_issues(self, cached: CachedFeatures | None) -> JsonDict | None:
        """Return the training pictures whose label the others contradict; None where no others could.

        `found` has all of them, as picture ids with labels; `pictures` the first ones as cards.
        """
        if cached is None or len(cached.ids) < 2 * len(self._inputs.classes):
            return None
        import numpy as np

        rows = [self._inputs.rows[id] for id in cached.ids]
        position = {label: index for index, label in enumerate(self._inputs.classes)}
        labels = np.array([position[row.label] for row in rows])
        groups = [row.group or cached.ids[number] for number, row in enumerate(rows)]
        if len(set(groups)) == 1:  # near duplicates of each other do not judge each other
            return None
        probabilities = cross_validated_probabilities(cached.features, labels, len(position), groups=groups)
        found: list[JsonDict] = [
            {
                "id": cached.ids[issue.row],
                "label": rows[issue.row].label,
                "predicted": self._inputs.classes[issue.suggested],
                "self_confidence": issue.self_confidence,
            }
            for issue in find_label_issues(probabilities, labels)
        ]
        shown = [{**self._card(self._inputs.rows[issue["id"]]), **issue} for issue in found[:NUM_ISSUES]]
        return {"examined": len(rows), "count": len(found), "found": found, "pictures": shown}

    def _answered(self, answer: Answer) -> JsonDict:
        card = self._card(self._inputs.rows[answer.key])
        return {
            **card,
            "predicted": answer.predicted,
            "score": answer.score,
            "loss": answer.loss,
            "right": answer.is_right,
        }

    def _heated(self, answer: Answer) -> str | None:
        if "activation" not in answer.row:
            return None
        return self._thumbnails.heated(self._inputs.rows[answer.key].blob, answer.row["activation"])

    def _card(self, row: ManifestRow) -> JsonDict:
        origin = row.provenance
        return {
            "image": self._thumbnails.plain(row.blob),
            "label": row.label,
            "name": picture_name(origin.source_url),
            "link": web_link(origin.page_url) or web_link(origin.source_url),
            "creator": origin.creator,
            "license": origin.license,
            "license_link": web_link(origin.license_url),
            "id": row.id,
        }


def picture_name(source_url: str) -> str:
    """Return the file name in an address, or its end where there is none."""
    parts = urlsplit(source_url)
    name = unquote(parts.path.rpartition("/")[2]) or source_url
    return f"{name}#{parts.fragment}" if parts.fragment else name


def web_link(url: Any) -> str | None:
    """Return an address that a browser may follow: http and https alone, so never `javascript:`."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    return str(url) if parts.scheme in ("http", "https") and parts.hostname else None
