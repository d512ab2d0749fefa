"""From the answers of a form to the YAML of a new classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config import Classifier
from pipeline.config.new_classifier import write_yaml
from pipeline.datasets.sources.guess import guess_section
from pipeline.errors import ConfigError
from pipeline.storage import Storage
from pipeline.types import JsonDict, JsonObject, JsonValue

SEARCHES = ("openverse", "wikimedia_commons", "flickr", "google_custom_search")
MAX_TEXT = 20_000
SCHEDULES = {
    "": "only when somebody starts a run",
    "@daily": "every day",
    "@weekly": "every week",
    "@monthly": "every month",
    "on_dataset_change": "when a dataset event says so",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a person filled in; every field is text, as forms send it.

    Args:
        name: The classifier's name.
        description: One line.
        kind: `uploads`, `place`, `search` or `sample`.
        place: A path or an address.
        label: The class of all pictures of the place.
        classes: Its classes in order, separated by commas.
        search: The search engine.
        queries: A line `class: words` for each class.
        limit: Pictures of a class that a search gives at most.
        test: Percent of the pictures that test.
        accuracy: Percent that a version must reach.
        schedule: A key of `SCHEDULES`.
        approval: Not empty if a person must agree to each version.
    """

    name: str = ""
    description: str = ""
    kind: str = "uploads"
    place: str = ""
    label: str = ""
    classes: str = ""
    search: str = SEARCHES[0]
    queries: str = ""
    limit: str = "100"
    test: str = "20"
    accuracy: str = "80"
    schedule: str = ""
    approval: str = ""


def draft_yaml(storage: Storage, answers: Answers, *, by: str) -> str:
    """Return the YAML that the answers describe; what is a default already is left out.

    Args:
        storage: Tells whether a `gs://` URI is a folder.
        answers: Of the form.
        by: Who gave them.

    Raises:
        ConfigError: naming what is wrong with the answers.
    """
    value: JsonDict = {"name": answers.name}
    if answers.description:
        value["description"] = answers.description
    value["dataset"] = {"source": _source(storage, answers)}
    test = _percent(answers.test, "The share of test pictures")
    if test != 0.2:
        value["dataset"]["split"] = {"test_fraction": test}
    value["gate"] = {"min_accuracy": _percent(answers.accuracy, "The accuracy")}
    if answers.approval:
        value["deploy"] = {"require_approval": True}
    if answers.schedule:
        value["schedule"] = answers.schedule
    Classifier.from_dict(value, origin="the form")
    return write_yaml(value, [f"Made on the page New classifier by {by}."])


def _source(storage: Storage, answers: Answers) -> JsonObject:
    if answers.kind in ("uploads", "sample"):
        return {"type": answers.kind}
    if answers.kind == "search":
        return _search(answers)
    if answers.kind != "place":
        raise ConfigError(f"Say where the pictures are. Received: {answers.kind[:40]!r}")
    if not answers.place:
        raise ConfigError("Give the path or the address of the pictures.")
    classes = [each.strip() for each in answers.classes.split(",") if each.strip()]
    return guess_section(storage, answers.place, label=answers.label or None, classes=classes)


def _search(answers: Answers) -> JsonObject:
    queries: dict[str, JsonValue] = {}
    for line in filter(None, map(str.strip, answers.queries.splitlines())):
        label, _, words = (part.strip() for part in line.partition(":"))
        queries[label] = words or label
    section: JsonDict = {"type": answers.search, "queries": queries}
    if answers.limit != "100":
        section["limit_per_class"] = _number(answers.limit, "Pictures for each class")
    if answers.search == "google_custom_search":
        section["engine"] = "the id of your search engine"
    return section


def _percent(text: str, what: str) -> float:
    number = _number(text, what)
    if not 0 < number < 100:
        raise ConfigError(f"{what} is a number of percent from 1 to 99. Received: {text[:20]!r}")
    return round(number / 100, 4)


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise ConfigError(f"{what} is a whole number. Received: {text[:20]!r}")
    return int(text)


def read_answers(fields: Mapping[str, str]) -> Answers:
    """Return the answers of a form; what it does not have is as on the empty form."""
    return Answers(**{name: text[:MAX_TEXT] for name, text in fields.items() if name in Answers.__slots__})
