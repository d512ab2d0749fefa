"""Bodies that nobody should send: JSON of every shape, base64 that is none, pictures that are damaged."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from tests.fakes.pictures import encode

SIGNATURES = ["serving_default", "keyed", "explained", "pixels", "none", "", 1, None]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", "inputs", "key", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@functools.cache
def small_pictures() -> list[bytes]:
    """A picture of each format and mode."""
    found = []
    for mode, kind in (
        ("RGB", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGBA", "PNG"),
        ("P", "GIF"),
        ("RGB", "WEBP"),
        ("L", "PNG"),
    ):
        found.append(encode(Image.linear_gradient("L").resize((31, 17)).convert("RGB").convert(mode), kind))
    return found


@st.composite
def damaged_pictures(draw: Any) -> bytes:
    """A picture with some bytes changed, cut, doubled or moved."""
    data = bytearray(draw(st.sampled_from(small_pictures())))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["change", "cut", "double", "insert"]))
        if kind == "change" and data:
            data[start] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[start : start + draw(st.integers(1, 200))]
        elif kind == "double":
            data[start:start] = data[start : start + draw(st.integers(1, 200))]
        else:
            data[start:start] = draw(st.binary(min_size=1, max_size=16))
    return bytes(data)


@st.composite
def base64_texts(draw: Any) -> str:
    """Base64 of a damaged picture in some alphabet, and sometimes not even that."""
    data = draw(damaged_pictures() | st.binary(max_size=40))
    text = draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes]))(
        data
    ).decode()
    return text + draw(st.sampled_from(["", "", "", "=", "!", " ", "é", "A"]))


PICTURES = base64_texts().map(lambda text: {"b64": text}) | base64_texts()
INSTANCES = (
    PICTURES
    | PICTURES.map(lambda picture: {"inputs": picture})
    | st.builds(lambda key, picture: {"key": key, "inputs": picture}, SCALARS, PICTURES)
    | VALUES
)
REQUESTS = st.fixed_dictionaries(
    {"instances": st.lists(INSTANCES, max_size=4) | VALUES},
    optional={"signature_name": st.sampled_from(SIGNATURES), "parameters": VALUES},
)
BODIES = REQUESTS.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=60)
