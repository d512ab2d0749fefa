"""Annotations of other tools as labels: COCO, Pascal VOC, Label Studio and plain JSON.

Boxes and outlines become the label of the picture: that of the category which covers most of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from pipeline.errors import SourceNotFound
from pipeline.types import JsonObject, JsonValue

MAX_XML_BYTES = 1_000_000
EXAMPLES = 3


@dataclass(slots=True, kw_only=True)
class Annotations:
    """The pictures of a document, and what is to be said about them.

    Args:
        rows: `file` and `label` of each picture; other columns as they are.
        several: Pictures with boxes of several categories, of which the largest was taken.
        disputed: Pictures whose annotators disagree; they have no label.
    """

    rows: list[JsonObject] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    disputed: list[str] = field(default_factory=list)

    @property
    def statements(self) -> list[str]:
        """What a reader of the dataset card should know."""
        kinds = (
            (self.several, "show several categories: that which covers most was taken"),
            (self.disputed, "have annotators who disagree: they are unlabelled"),
        )
        return [
            f"annotations: {len(names)} pictures {text}, such as {', '.join(names[:EXAMPLES])}"
            for names, text in kinds
            if names
        ]


def read_document(value: JsonValue, origin: str) -> Annotations:
    """Read a JSON document that lists pictures.

    Raises:
        SourceNotFound: if it is none of the shapes that are read, or a picture has several labels.
    """
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        result = Annotations()
        for number, each in enumerate(value, 1):
            _read_task(result, each, f"{origin}, object {number}")
        return result
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        return _read_coco(value)
    if isinstance(value, dict) and value and all(isinstance(label, str) for label in value.values()):
        return Annotations(rows=[{"file": name, "label": label} for name, label in value.items()])
    raise SourceNotFound(
        f"{origin} is JSON of another shape; expected COCO (`images`, `annotations`, `categories`), a list "
        'of objects such as {"file": ..., "label": ...}, tasks of Label Studio, or {"FILE": "LABEL"}.',
        uri=origin,
    )


def _read_coco(value: JsonObject) -> Annotations:
    names = {
        each["id"]: str(each.get("name", "")) for each in _objects(value.get("categories")) if "id" in each
    }
    areas: dict[JsonValue, Counter[str]] = {}
    for each in _objects(value.get("annotations")):
        label = names.get(each.get("category_id"), "")
        if label:
            areas.setdefault(each.get("image_id"), Counter())[label] += _area(each)
    result = Annotations()
    for image in _objects(value["images"]):
        file = str(image.get("file_name", ""))
        counts = areas.get(image.get("id"), Counter())
        result.rows.append({"file": file, "label": find_largest(counts)})
        if len(counts) > 1:
            result.several.append(file)
    return result


def _area(annotation: JsonObject) -> int:
    """Return the size of a box in pixels, at least 1: annotations of whole pictures have none."""
    box = annotation.get("bbox")
    if isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box):
        return max(1, round(float(box[2]) * float(box[3])))
    area = annotation.get("area")
    return max(1, round(area)) if isinstance(area, int | float) else 1


def find_largest(areas: Mapping[str, int]) -> str:
    """Return the category that covers most; empty without one."""
    return max(sorted(areas), key=lambda label: areas[label], default="")


def read_voc(data: bytes, name: str) -> Counter[str]:
    """Return the area of each category in an annotation of Pascal VOC; empty for any other XML."""
    if len(data) > MAX_XML_BYTES or b"<!" in data.replace(b"<!--", b""):
        return Counter()
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise SourceNotFound(
            f"{name} is damaged XML: {error}. Correct it or take it out.", uri=name
        ) from error
    areas: Counter[str] = Counter()
    for each in root.iter("object") if root.tag == "annotation" else ():
        label = (each.findtext("name") or "").strip()
        if label:
            areas[label] += _box_area(each)
    return areas


def _box_area(element: ElementTree.Element) -> int:
    try:
        left, top, right, bottom = (
            float(element.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        return 1
    return max(1, round((right - left) * (bottom - top)))


def _read_task(result: Annotations, task: JsonObject, where: str) -> None:
    """Read a picture of a list of objects: a task of Label Studio, or an object with a file and a label."""
    data = task.get("data")
    if not isinstance(data, dict):
        result.rows.append(task)
        return
    texts = [text for text in data.values() if isinstance(text, str)]
    named = [data[name] for name in ("image", "img", "url") if isinstance(data.get(name), str)]
    file = _task_file(str((named or texts or [""])[0]))
    choices = list(_choices(task, where))
    counts = Counter(choices)
    label = max(sorted(counts), key=lambda name: counts[name], default="")
    if len([name for name in counts if counts[name] == counts[label]]) > 1:
        label = ""
        result.disputed.append(file)
    result.rows.append({"file": file, "label": label})


def _choices(task: JsonObject, where: str) -> Iterator[str]:
    annotations = task.get("annotations", task.get("completions"))
    for annotation in _objects(annotations):
        for each in _objects(annotation.get("result")) if not annotation.get("was_cancelled") else ():
            value = each.get("value")
            chosen = value.get("choices") if isinstance(value, dict) else None
            if isinstance(chosen, list) and len(chosen) > 1:
                raise SourceNotFound(
                    f"{where} has several labels: {', '.join(map(str, chosen))}. A picture has one label."
                )
            if isinstance(chosen, list) and chosen:
                yield str(chosen[0])


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
