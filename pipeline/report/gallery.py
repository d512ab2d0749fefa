"""The pictures of a report: each as a card with its thumbnail, its answer, and where it comes from."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from urllib.parse import unquote, urlsplit

from pipeline.artifacts.evaluated_run import SuspectedLabel, SuspectedLabels
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError
from pipeline.explain.features import CachedFeatures, read_features
from pipeline.explain.neighbours import nearest_pictures
from pipeline.explain.thumbnails import Thumbnails
from pipeline.pixels.spec import ALL_BITS
from pipeline.preprocess.decisions import confirmed_pictures, read_decisions
from pipeline.report.inputs import ReportInputs
from pipeline.report.label_issues import cross_validated_probabilities, find_label_issues
from pipeline.report.ranking import Answer, confused_pairs, examples_by_class, rank_answers
from pipeline.report.views import (
    AnswerCard,
    ClassExamples,
    ConfusedPair,
    IssueCard,
    LabelIssues,
    NeighbourCard,
    PictureCard,
)

DIGEST = re.compile(r"^([0-9a-f]{12})[0-9a-f]{52}(?=\.|$)")  # uploaded files are named by theirs
log = logging.getLogger(__name__)

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
        workspace: Where the pictures are.
        inputs: What the report is made of.
    """

    def __init__(self, workspace: Workspace, inputs: ReportInputs) -> None:
        self._workspace, self._inputs = workspace, inputs
        self._thumbnails = Thumbnails(workspace, bits=inputs.info.bits if inputs.info else ALL_BITS)

    @cached_property
    def answers(self) -> list[Answer]:
        """The candidate's answers, the worst first."""
        return rank_answers(self._inputs)

    @cached_property
    def _cached(self) -> CachedFeatures | None:
        record = self._inputs.record
        uris = record.features if record else ()
        return read_features(self._workspace.storage, uris, wanted=self._inputs.training_rows)

    @cached_property
    def _unseen(self) -> CachedFeatures | None:
        """Features of the network that the labels did not train; those of a fine-tuned one fit them."""
        record = self._inputs.record
        if record is None or record.finetune is None:
            return self._cached
        uris = record.finetune.base_features
        return read_features(self._workspace.storage, uris, wanted=self._inputs.training_rows)

    def worst(self) -> list[AnswerCard]:
        """Return the pictures of the largest losses, with what they resemble among the training pictures."""
        worst = [answer for answer in self.answers if not answer.is_right][:NUM_WORST]
        directions = {answer.key: answer.row.features for answer in worst if answer.row.features}
        near = nearest_pictures(self._cached, directions, NUM_NEIGHBOURS) if self._cached else {}
        return [
            replace(self._heated(answer), neighbours=self._neighbours(near.get(answer.key, ())))
            for answer in worst
        ]

    def _neighbours(self, near: Iterable[tuple[str, float]]) -> list[NeighbourCard]:
        return [NeighbourCard(picture=self._card(id), cosine=cosine) for id, cosine in near]

    def confused(self) -> list[ConfusedPair]:
        """Return the most frequent confusions with some of their pictures."""
        return [
            ConfusedPair(
                label=label,
                predicted=predicted,
                count=len(answers),
                pictures=[self._answered(answer) for answer in answers[:NUM_OF_PAIR]],
            )
            for label, predicted, answers in confused_pairs(self.answers, NUM_PAIRS)
        ]

    def changed(self, keys: Iterable[str]) -> list[AnswerCard]:
        """Return the first of these test pictures; those gained or lost against the champion."""
        by_key = {answer.key: answer for answer in self.answers}
        answers = [by_key[key] for key in keys if key in by_key]
        return [self._answered(answer) for answer in answers[:NUM_CHANGED]]

    def explained(self) -> list[ClassExamples]:
        """Return right and wrong pictures of each class with what spoke for their answers."""
        with_map = [answer for answer in self.answers if answer.row.activation is not None]
        classes = self._inputs.training.classes[:MAX_CLASSES_EXPLAINED]
        return [
            ClassExamples(label=label, cards=[self._heated(answer) for answer in (*right, *wrong)])
            for label, (right, wrong) in examples_by_class(with_map, classes, NUM_EACH).items()
            if right or wrong
        ]

    @cached_property
    def suspected_labels(self) -> SuspectedLabels | None:
        """The training pictures whose label the others contradict; None where no others could."""
        cached, classes = self._unseen, self._inputs.training.classes
        if cached is None or len(cached.ids) < 2 * len(classes):
            return None
        import numpy as np

        rows = [self._inputs.rows[id] for id in cached.ids]
        position = {label: index for index, label in enumerate(classes)}
        labels = np.array([position[row.label] for row in rows])
        groups = [row.group or id for row, id in zip(rows, cached.ids, strict=True)]
        if len(set(groups)) == 1:  # near duplicates of each other do not judge each other
            return None
        probabilities = cross_validated_probabilities(cached.features, labels, len(position), groups=groups)
        confirmed = self._confirmed()
        suspected = tuple(
            SuspectedLabel(
                id=cached.ids[issue.row],
                label=rows[issue.row].label,
                predicted=classes[issue.suggested],
                self_confidence=issue.self_confidence,
            )
            for issue in find_label_issues(probabilities, labels)
            if cached.ids[issue.row] not in confirmed
        )
        return SuspectedLabels(examined=len(rows), count=len(suspected), found=suspected)

    def _confirmed(self) -> set[str]:
        """Return the pictures whose label a person confirmed; a wrong line ends only the next run."""
        dataset = self._workspace.dataset(self._inputs.dataset.dataset)
        try:
            return confirmed_pictures(self._inputs.rows.values(), read_decisions(dataset))
        except ConfigError as error:
            log.warning("no label counts as confirmed: %s", error)
            return set()

    def label_issues(self) -> LabelIssues | None:
        """Return the first of the suspected labels as cards."""
        suspected = self.suspected_labels
        if suspected is None:
            return None
        return LabelIssues(
            examined=suspected.examined,
            count=suspected.count,
            pictures=[
                IssueCard(
                    picture=self._card(each.id),
                    predicted=each.predicted,
                    self_confidence=each.self_confidence,
                )
                for each in suspected.found[:NUM_ISSUES]
            ],
        )

    def _answered(self, answer: Answer) -> AnswerCard:
        return AnswerCard(
            picture=self._card(answer.key),
            predicted=answer.predicted,
            score=answer.score,
            loss=answer.loss,
            right=answer.is_right,
        )

    def _heated(self, answer: Answer) -> AnswerCard:
        card, activation = self._answered(answer), answer.row.activation
        if activation is None:
            return card
        blob = self._inputs.rows[answer.key].blob
        return replace(card, heated=self._thumbnails.heated(blob, activation))

    def _card(self, id: str) -> PictureCard:
        row = self._inputs.rows[id]
        origin = row.provenance
        return PictureCard(
            id=id,
            image=self._thumbnails.plain(row.blob),
            label=row.label,
            name=picture_name(origin.source_url),
            link=web_link(origin.page_url) or web_link(origin.source_url),
            creator=origin.creator,
            license=origin.license,
            license_link=web_link(origin.license_url),
        )


def picture_name(source_url: str) -> str:
    """Return the file name in an address, or its end where there is none; of a digest the beginning."""
    parts = urlsplit(source_url)
    name = DIGEST.sub(r"\1", unquote(parts.path.rpartition("/")[2])) or source_url
    return f"{name}#{parts.fragment}" if parts.fragment else name


def web_link(url: str | None) -> str | None:
    """Return an address that a browser may follow: http and https alone, so never `javascript:`."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    return str(url) if parts.scheme in ("http", "https") and parts.hostname else None
