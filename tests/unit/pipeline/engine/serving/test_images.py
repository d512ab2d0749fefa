from __future__ import annotations

import base64

import pytest
from PIL import Image

from pipeline.engine.serving.images import encoded_image, find_bad_images, read_image
from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.limits import WorkerLimits
from tests.fakes.pictures import encode


def picture(kind: str) -> bytes:
    return encode(Image.new("RGB", (4, 3), (200, 10, 10)), kind)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_picture_is_found_raw_and_in_both_alphabets_of_base64(kind):
    data = picture(kind)
    for value in (
        data,
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
        base64.urlsafe_b64encode(data),
    ):
        assert encoded_image(value) == data


def test_bad_pictures_are_named_by_their_index():
    good = picture("PNG")
    problems = find_bad_images(
        [good, b"plain text", good, "!!", good[: len(good) // 2], 7, b""], WorkerLimits()
    )
    assert sorted(problems) == [1, 3, 4, 5, 6]
    assert "not_an_image" in problems[1]
    assert "base64" in problems[3]
    assert "empty_file" in problems[6]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (WorkerLimits(max_picture_bytes=50), r"The picture has \d+ bytes, more than 50"),
        (WorkerLimits(max_picture_pixels=11), "The picture has 4 x 3 pixels, more than 11"),
    ],
)
def test_a_picture_over_a_limit_is_refused_by_what_it_has_and_may_have(limits, problem):
    data = picture("PNG")
    with pytest.raises(PredictionFailed, match=problem):
        read_image(data, limits)
    assert read_image(data, WorkerLimits(max_picture_bytes=len(data), max_picture_pixels=12)).shape == (
        3,
        4,
        3,
    )


def test_limits_pass_through_a_command_line():
    limits = WorkerLimits(threads=3, max_batch=2, max_picture_pixels=100)
    assert WorkerLimits.from_json(limits.to_json()) == limits
