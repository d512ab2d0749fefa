"""What a dataset would be: looked at in seconds, before a run or a YAML.

Every picture that the sources name is counted; of each class a few are read, so that files which are no
pictures, or too dark, show at once. Nothing is downloaded but what a source must read to know its pictures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from pipeline.artifacts.codec import as_object, build_record
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.config.sources import SourceSection
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.datasets.sources.registry import open_source
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.errors import DatasetError, FetchRefused
from pipeline.pixels.conversion import convert_picture
from pipeline.preprocess.dedup.fingerprint import examine_picture
from pipeline.preprocess.quality_warnings import find_similar_labels
from pipeline.types import JsonDict, JsonObject

NUM_EXAMPLES = 10
MIN_PICTURES = 2  # one to train with, one to test


@dataclass(slots=True, kw_only=True)
class ClassPreview:
    """One class.

    Args:
        pictures: How many the sources name.
        parts: Of these, how many are in each part of the sources' own split.
        examples: Where ten of them are.
    """

    pictures: int = 0
    parts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class DatasetPreview:
    """What a dataset would be.

    Args:
        classes: The classes, in their order.
        left_out: Pictures that the sources do not give, by reason.
        examined: How many pictures were read.
        unusable: Of these, examples of those that a run would leave out, by reason.
        statements: What the sources say of themselves.
        problems: What a run would fail at, or warn of.
        is_complete: False where the time was over before every source was at its end.
    """

    classes: dict[str, ClassPreview] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    examined: int = 0
    unusable: dict[str, list[str]] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_complete: bool = True

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: JsonObject) -> DatasetPreview:
        """Read what `to_dict` wrote."""
        classes = {
            label: build_record(ClassPreview, as_object(each))
            for label, each in as_object(value["classes"]).items()
        }
        return build_record(cls, value, classes=classes)


def preview_dataset(
    workspace: Workspace, classifier: Classifier, policy: FetchPolicy, *, seconds: float = 20.0
) -> DatasetPreview:
    """Look at the sources of a classifier.

    Args:
        workspace: Where uploads are; its storage reads paths and `gs://` URIs.
        classifier: Whose sources.
        policy: How the network may be used.
        seconds: When to stop; what was seen until then is told.
    """
    preview, deadline = DatasetPreview(), time.monotonic() + seconds
    sections = classifier.dataset.all_sources
    context = SourceContext(
        storage=workspace.storage,
        previous={},
        policy=policy,
        is_alone=classifier.dataset.has_one_source,
        may_descend=classifier.dataset.has_one_layout,
        uploads=workspace.uploads(classifier.name),
        feedback=workspace.feedback(classifier.name),
    )
    for number, section in enumerate(sections):
        try:
            _look_at_source(preview, section, context, deadline)
        except DatasetError as error:
            place = f"source {number + 1}: " if len(sections) > 1 else ""
            preview.problems.append(f"{place}{error.message}")
    order = classifier.dataset.order_classes(preview.classes)
    preview.classes = {label: preview.classes.get(label, ClassPreview()) for label in order}
    fraction = classifier.dataset.split.test_fraction
    if not preview.problems:  # what a source says of itself comes first
        preview.problems += _find_problems(preview.classes, test_fraction=fraction)
    return preview


def _look_at_source(
    preview: DatasetPreview, section: SourceSection, context: SourceContext, deadline: float
) -> None:
    limit = getattr(section, "limit_per_class", None)
    counts: Counter[str] = Counter()
    source = open_source(section, context)
    for entry in source.entries(0, 1):
        if time.monotonic() > deadline:
            preview.is_complete = False
            break
        if entry.refused is not None:
            preview.left_out[str(entry.refused)] += 1
        elif limit is None or counts[entry.label] < limit:
            counts[entry.label] += 1
            _add(preview, entry)
    preview.statements += source.statements


def _add(preview: DatasetPreview, entry: SourceEntry) -> None:
    each = preview.classes.setdefault(entry.label, ClassPreview())
    each.pictures += 1
    if entry.split is not None:
        each.parts[entry.split] += 1
    if len(each.examples) >= NUM_EXAMPLES:
        return
    each.examples.append(entry.source_url)
    if entry.read is not None:
        preview.examined += 1
        if reason := _examine(entry):
            preview.unusable.setdefault(reason, []).append(entry.source_url)


def _examine(entry: SourceEntry) -> str:
    """Return why a picture would be left out; empty if it would be kept."""
    try:
        data = entry.read() if entry.read is not None else b""
    except FetchRefused as error:
        return str(error.reason)
    conversion = convert_picture(data)
    examined = examine_picture(data if conversion is None else conversion.data)
    return examined if isinstance(examined, str) else ""


def _find_problems(classes: Mapping[str, ClassPreview], *, test_fraction: float) -> Iterator[str]:
    if len(classes) < 2:
        names: Sequence[str] = list(classes)
        yield f"a classifier needs at least two classes; found: {', '.join(names) or 'none'}"
    small = [f"{label} ({each.pictures})" for label, each in classes.items() if each.pictures < MIN_PICTURES]
    if small:
        yield f"fewer than {MIN_PICTURES} pictures, one to train with and one to test: {', '.join(small)}"
    total = sum(each.pictures for each in classes.values())
    if total and not any("test" in each.parts for each in classes.values()) and total * test_fraction < 20:
        yield (
            f"about {round(total * test_fraction)} of {total} pictures would test the model: too few to tell "
            "a good one from a bad one; 100 pictures give about 20"
        )
    yield from find_similar_labels({label: each.pictures for label, each in classes.items()})
