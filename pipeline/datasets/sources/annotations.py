"""Annotations of other tools as labels: COCO, Pascal VOC, Label Studio and plain JSON.

Boxes and outlines become the label of the picture, by default that of the category which covers most of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from pipeline.config.sources import LabelFrom, ListColumns
from pipeline.datasets.sources.boxes import EXAMPLES, Boxes, Choices
from pipeline.errors import NoLabels, SourceNotFound
from pipeline.types import JsonObject, JsonValue

MAX_XML_BYTES = 1_000_000
MAX_CVAT_BYTES = 64 * 2**20  # one file for all pictures


@dataclass(slots=True, kw_only=True)
class Annotations:
    """The pictures of a document, and what is to be said about them.

    Args:
        rows: `file` and `label` of each picture; other columns as they are.
        choices: Pictures that show several categories.
        disputed: Pictures whose annotators disagree; they have no label.
    """

    rows: list[JsonObject] = field(default_factory=list)
    choices: Choices = field(default_factory=Choices)
    disputed: list[str] = field(default_factory=list)

    @property
    def statements(self) -> list[str]:
        """What a reader of the dataset card should know."""
        if not self.disputed:
            return self.choices.statements
        shown = ", ".join(self.disputed[:EXAMPLES])
        return [
            *self.choices.statements,
            f"annotations: {len(self.disputed)} pictures have annotators who disagree: they are unlabelled, "
            f"such as {shown}",
        ]


def read_document(
    value: JsonValue, origin: str, columns: ListColumns | None = None, label_from: LabelFrom = "largest"
) -> Annotations:
    """Read a JSON document that lists pictures.

    Args:
        value: The document.
        origin: Its name, for messages.
        columns: What the user named: of Label Studio, `file` is a key of `data`, `label` a question.
        label_from: Which category becomes the label of a picture that shows several.

    Raises:
        NoLabels: if it is none of the shapes that are read.
        SourceNotFound: if a picture has several labels.
    """
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return _read_objects(value, origin, columns or ListColumns())
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        return _read_coco(value, Choices(label_from=label_from))
    if isinstance(value, dict) and value and all(isinstance(label, str) for label in value.values()):
        return Annotations(rows=[{"file": name, "label": label} for name, label in value.items()])
    if isinstance(value, dict) and (rows := _read_by_class(value) or _read_numbered(value)):
        return Annotations(rows=rows)
    raise NoLabels(
        f"{origin} is JSON of another shape; expected COCO (`images`, `annotations`, `categories`), a list "
        'of objects such as {"file": ..., "label": ...}, tasks of Label Studio, or {"FILE": "LABEL"}.',
        uri=origin,
    )


def _read_by_class(value: JsonObject) -> list[JsonObject]:
    """Return the rows of `{"cat": ["1.jpg", "2.jpg"]}`; none for other shapes."""
    lists = {label: files for label, files in value.items() if isinstance(files, list) and files}
    if len(lists) < max(2, len(value)) or not all(
        isinstance(file, str) for files in lists.values() for file in files
    ):
        return []
    return [{"file": file, "label": label} for label, files in lists.items() for file in files]


def _read_numbered(value: JsonObject) -> list[JsonObject]:
    """Return the rows of `{"classes": ["cat"], "labels": {"1": 0}}`, as FiftyOne writes it; else none."""
    classes, labels = value.get("classes"), value.get("labels")
    if not isinstance(classes, list) or not isinstance(labels, dict):
        return []
    names = {number: str(name) for number, name in enumerate(classes)}
    return [
        {"file": file, "label": names.get(number, "") if isinstance(number, int) else number}
        for file, number in labels.items()
    ]


def _read_coco(value: JsonObject, choices: Choices) -> Annotations:
    names = {
        each["id"]: str(each.get("name", "")) for each in _objects(value.get("categories")) if "id" in each
    }
    boxes: dict[JsonValue, Boxes] = {}
    for each in _objects(value.get("annotations")):
        label = names.get(each.get("category_id"), "")
        if label:
            boxes.setdefault(each.get("image_id"), Boxes()).add(label, _area(each))
    result = Annotations(choices=choices)
    for image in _objects(value["images"]):
        file = str(image.get("file_name", ""))
        label = choices.choose(file, boxes.get(image.get("id"), Boxes()))
        result.rows.append({"file": file, "label": label})
    return result


def _area(annotation: JsonObject) -> int:
    """Return the size of a box in pixels, at least 1: annotations of whole pictures have none."""
    box = annotation.get("bbox")
    if isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box):
        return max(1, round(float(box[2]) * float(box[3])))
    area = annotation.get("area")
    return max(1, round(area)) if isinstance(area, int | float) else 1


def read_voc(data: bytes, name: str) -> Boxes:
    """Return the boxes in an annotation of Pascal VOC; none for any other XML."""
    boxes = Boxes()
    if len(data) > MAX_XML_BYTES or b"<!" in data.replace(b"<!--", b""):
        return boxes
    root = _parse(data, name)
    for each in root.iter("object") if root.tag == "annotation" else ():
        label = (each.findtext("name") or "").strip()
        if label:
            boxes.add(label, _box_area(each))
    return boxes


def read_cvat(data: bytes, name: str) -> dict[str, Boxes]:
    """Return the tags of each picture in a file of CVAT for images, else its boxes; none for any other XML.

    Raises:
        SourceNotFound: if a picture has several tags.
    """
    if len(data) > MAX_CVAT_BYTES or b"<!" in data.replace(b"<!--", b"") or b"<image " not in data:
        return {}
    pictures = {}
    for image in _parse(data, name).iter("image"):
        tags = [tag.get("label", "") for tag in image.iter("tag")]
        if len(set(tags)) > 1:
            raise SourceNotFound(
                f"{name} gives {image.get('name')} several labels: {', '.join(tags)}. A picture has one.",
                uri=name,
            )
        boxes = Boxes()
        for label in tags[:1]:
            boxes.add(label, 1)
        for each in image if not tags else ():
            if each.get("label"):
                boxes.add(each.get("label", ""), _cvat_area(each))
        pictures[image.get("name", "")] = boxes
    return pictures


def _cvat_area(element: ElementTree.Element) -> int:
    try:
        left, top, right, bottom = (float(element.get(side, 0)) for side in ("xtl", "ytl", "xbr", "ybr"))
    except ValueError:
        return 1
    return max(1, round((right - left) * (bottom - top)))


def _parse(data: bytes, name: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise SourceNotFound(
            f"{name} is damaged XML: {error}. Correct it or take it out.", uri=name
        ) from error


def read_voc_file(data: bytes) -> str:
    """Return the name of the picture in an annotation of Pascal VOC; empty where it has none."""
    match = re.search(rb"<filename>([^<>&]+)</filename>", data)
    return match[1].decode("utf-8", "replace").strip() if match else ""


def _box_area(element: ElementTree.Element) -> int:
    try:
        left, top, right, bottom = (
            float(element.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        return 1
    return max(1, round((right - left) * (bottom - top)))


def _read_objects(tasks: Sequence[JsonObject], origin: str, columns: ListColumns) -> Annotations:
    """Read tasks of Label Studio, or objects with a file and a label."""
    result = Annotations()
    question = _find_question(tasks, origin, columns.label)
    for number, task in enumerate(tasks, 1):
        if isinstance(task.get("data"), dict):
            _read_task(result, task, question, columns, f"{origin}, object {number}")
        else:
            result.rows.append(task)
    return result


def _find_question(tasks: Sequence[JsonObject], origin: str, wanted: str | None) -> str:
    """Return the question, Label Studio's `from_name`, whose choices are the labels.

    Raises:
        SourceNotFound: if there are several and none is named, or the one that is named is not there.
    """
    counts = Counter(
        question for task in tasks if isinstance(task.get("data"), dict) for question, _ in _choices(task)
    )
    if wanted is not None and counts:
        matches = [name for name in counts if name.casefold() == wanted.casefold()]
    else:
        matches = list(counts)
    if len(matches) == 1 or not counts:
        return matches[0] if matches else ""
    listed = ", ".join(f"{name or 'one without a name'} ({count})" for name, count in counts.most_common())
    problem = "asks several questions" if wanted is None else f"does not ask {wanted!r}"
    raise SourceNotFound(
        f"{origin} {problem}; name the one whose choices are the labels: `columns: {{label: "
        f"{counts.most_common(1)[0][0] or '...'}}}`. Received: {listed}",
        uri=origin,
    )


def _read_task(
    result: Annotations, task: JsonObject, question: str, columns: ListColumns, where: str
) -> None:
    data = task.get("data")
    values = data if isinstance(data, dict) else {}
    usual = (columns.file,) if columns.file else ("image", "img", "url")
    texts = [text for text in values.values() if isinstance(text, str)]
    named = [text for name in usual if isinstance(text := values.get(name), str)]
    if columns.file and not named:
        raise SourceNotFound(f"{where} has no text {columns.file!r} in `data`. Received: {', '.join(values)}")
    file = _task_file((named or texts or [""])[0])
    choices = [_single(chosen, where) for name, chosen in _choices(task) if name == question]
    counts = Counter(choices)
    label = max(sorted(counts), key=lambda name: counts[name], default="")
    if len([name for name in counts if counts[name] == counts[label]]) > 1:
        label = ""
        result.disputed.append(file)
    result.rows.append({columns.file or "file": file, columns.label or "label": label})


def _single(chosen: Sequence[JsonValue], where: str) -> str:
    if len(chosen) > 1:
        raise SourceNotFound(
            f"{where} has several labels: {', '.join(map(str, chosen))}. A picture has one label."
        )
    return str(chosen[0])


def _choices(task: JsonObject) -> Iterator[tuple[str, Sequence[JsonValue]]]:
    """Yield each question of a task with the choices that an annotator made."""
    annotations = task.get("annotations", task.get("completions"))
    for annotation in _objects(annotations):
        for each in _objects(annotation.get("result")) if not annotation.get("was_cancelled") else ():
            value = each.get("value")
            chosen = value.get("choices") if isinstance(value, dict) else None
            if isinstance(chosen, list) and chosen:
                yield str(each.get("from_name") or ""), chosen


def _task_file(address: str) -> str:
    """Return the file behind an address of Label Studio's own."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    if parts.path.rstrip("/").endswith("/data/local-files") and local:
        return local[0]
    upload = re.match(r"/data/upload/(?:\d+/)?(.+)", parts.path)
    return address if parts.scheme or upload is None else upload[1]


def _objects(value: JsonValue | None) -> Sequence[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
