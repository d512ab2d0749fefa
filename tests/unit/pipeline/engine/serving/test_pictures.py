from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.pictures import encoded_picture, find_bad_pictures


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (200, 10, 10)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_picture_is_found_raw_and_in_both_alphabets_of_base64(kind):
    data = picture(kind)
    for value in (
        data,
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
        base64.urlsafe_b64encode(data),
    ):
        assert encoded_picture(value) == data


def test_bad_pictures_are_named_by_their_index():
    good = picture("PNG")
    problems = find_bad_pictures(
        [good, b"plain text", good, "!!", good[: len(good) // 2], 7, b""], WorkerLimits()
    )
    assert sorted(problems) == [1, 3, 4, 5, 6]
    assert "not_an_image" in problems[1]
    assert "base64" in problems[3]
    assert "empty_file" in problems[6]
