"""What people say of wrong answers: the picture and its right label, kept until somebody confirms them.

`feedback/<model>/<id>` in the workspace is a picture, named by its SHA-256, and `feedback/<model>/<id>.json`
who says what of it. Graft's pages confirm or reject it there; the engine keeps what was decided, unless
somebody says another label.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.errors import FormatTooNew, InvalidArgument, ObjectNotFound, ResourceExhausted
from pipeline.pixels.header import sniff_format
from pipeline.storage import Storage
from pipeline.types import JsonObject, JsonValue

FORMAT = 1
MAX_INSTANCES = 128
ORIGIN = "api"
FIELDS = {"instances", "labels", "origin", "who"}
TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """The right label of a picture.

    Args:
        picture: The encoded picture.
        label: Its class.
    """

    picture: bytes
    label: str

    @property
    def id(self) -> str:
        """SHA-256 of the picture."""
        return hashlib.sha256(self.picture).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Where remarks come from.

    Args:
        origin: The program that asked, `api` unless it says another name.
        who: The person who said so, or whose token was sent.
        request_id: Of the request.
    """

    origin: str
    who: str
    request_id: str


class FeedbackFiles:
    """Keeps remarks in the workspace.

    Args:
        storage: Writes them.
        uri: The folder of all models' remarks.
        max_pictures: Most pictures that are kept of a model.
        max_picture_bytes: The largest picture.
    """

    def __init__(self, storage: Storage, uri: str, *, max_pictures: int, max_picture_bytes: int) -> None:
        self._storage = storage
        self._uri = uri
        self._max_pictures = max_pictures
        self._max_picture_bytes = max_picture_bytes

    def read(self, body: JsonValue) -> list[Remark]:
        """Return the remarks of a request.

        Raises:
            InvalidArgument: naming the field, or the instance, that is wrong.
        """
        if not isinstance(body, dict) or body.keys() - FIELDS:
            raise InvalidArgument(f"Expected a JSON object with the fields {', '.join(sorted(FIELDS))}.")
        instances, labels = body.get("instances"), body.get("labels")
        if not isinstance(instances, list) or not 1 <= len(instances) <= MAX_INSTANCES:
            raise InvalidArgument(f"Expected a list of 1 to {MAX_INSTANCES} instances.", field="instances")
        if not isinstance(labels, list) or len(labels) != len(instances):
            raise InvalidArgument("Expected a list with a label for each instance.", field="labels")
        return [
            Remark(picture=self._picture(instance, number), label=read_text(label, "labels"))
            for number, (instance, label) in enumerate(zip(instances, labels, strict=True))
        ]

    def _picture(self, instance: JsonValue, number: int) -> bytes:
        try:
            data = base64.b64decode(_encoded(instance), validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if len(data) > self._max_picture_bytes or sniff_format(data) is None:
            raise InvalidArgument(
                f'instance {number}: expected {{"b64": ...}} or {{"inputs": {{"b64": ...}}}} with a JPEG, '
                f"PNG, GIF or WebP of at most {self._max_picture_bytes} bytes.",
                field="instances",
            )
        return data

    def keep(self, model: str, remarks: Sequence[Remark], sender: Sender) -> list[str]:
        """Write remarks; a picture of which the same label was said already stays as it is.

        Raises:
            ResourceExhausted: if the model has too many pictures; nothing is written then.
            FormatTooNew: if a newer engine said something of one of the pictures.
        """
        folder = f"{self._uri}/{model}"
        uris = self._storage.list_uris(f"{folder}/")
        kept = {uri.rpartition("/")[2] for uri in uris if not uri.endswith(".json")}
        if len(kept | {remark.id for remark in remarks}) > self._max_pictures:
            raise ResourceExhausted(
                f"{model} has {len(kept)} pictures of feedback, the most that are kept is "
                f"{self._max_pictures}. Confirm or remove some first."
            )
        for remark in remarks:
            self._keep(folder, remark, sender)
        return [remark.id for remark in remarks]

    def _keep(self, folder: str, remark: Remark, sender: Sender) -> None:
        record = f"{folder}/{remark.id}.json"
        if self._label_of(record) == remark.label:
            return
        self._storage.write_bytes(f"{folder}/{remark.id}", remark.picture)
        value: JsonObject = {
            "format": FORMAT,
            "id": remark.id,
            "label": remark.label,
            "origin": sender.origin,
            "who": sender.who,
            "request_id": sender.request_id,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "confirmed": None,
        }
        self._storage.write_json(record, value)

    def _label_of(self, record: str) -> JsonValue:
        try:
            value = self._storage.read_json(record)
        except (ObjectNotFound, ValueError):  # a damaged one is written again
            return None
        if not isinstance(value, dict):
            return None
        FormatTooNew.check(f"record {record}", value.get("format", 0), FORMAT)
        label: JsonValue = value.get("label")
        return label


def _encoded(instance: JsonValue) -> str:
    """Return the base64 text of a picture as `:predict` takes it."""
    value = instance.get("inputs", instance) if isinstance(instance, dict) else instance
    text = value.get("b64") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError("no base64 text")
    return text.translate(str.maketrans("-_", "+/"))


def read_text(value: JsonValue, field: str) -> str:
    """Return a short text of one line.

    Raises:
        InvalidArgument: if it is none.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not TEXT.fullmatch(text):
        raise InvalidArgument("Expected a text of 1 to 200 characters in one line.", field=field)
    return text


def read_sender(body: JsonObject, *, token_name: str, request_id: str) -> Sender:
    """Return where the remarks of a request come from; without `who` it is the token's name."""
    origin, who = (body.get(name) or default for name, default in (("origin", ORIGIN), ("who", token_name)))
    return Sender(
        origin=read_text(origin, "origin"),
        who=read_text(who, "who") if who else "",
        request_id=request_id,
    )
