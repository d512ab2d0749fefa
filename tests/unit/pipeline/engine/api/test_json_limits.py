from __future__ import annotations

import json
import time

import pytest

from pipeline.engine.api.json_limits import check_depth
from pipeline.errors import InvalidArgument


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"[]" * (depth % 2) + b"]}" * (depth // 2)


@pytest.mark.parametrize("depth", [0, 1, 7, 8])
def test_what_is_flat_enough_passes(depth):
    check_depth(nested(depth), 8)


@pytest.mark.parametrize("body", [nested(9), nested(10), b"[" * 9, b"[[],[" * 9, b'"[" [' + b"[" * 20])
def test_what_is_too_deep_is_refused(body):
    with pytest.raises(InvalidArgument, match="more deeply than 8 levels"):
        check_depth(body, 8)


@pytest.mark.parametrize(
    "value",
    ["[" * 50, "}" * 50, '\\"[[[[[[[[[[[[', {"a\\": ["[[[[[[[[[[[[[["]}, [["]"] * 100] * 3, "é[" * 20],
)
def test_brackets_in_strings_do_not_count(value):
    check_depth(json.dumps(value).encode(), 3)
    check_depth(json.dumps(value, ensure_ascii=False).encode(), 3)


@pytest.mark.parametrize("body", [b"", b"[1,", b'{"a', b"]]]]]]]]]]]]", b"\\", b'"'])
def test_what_is_malformed_is_left_to_the_parser(body):
    check_depth(body, 8)


def test_ten_megabytes_take_no_time():
    body = json.dumps({"instances": [{"b64": "A" * 10_000_000}]}).encode()
    before = time.process_time()
    check_depth(body, 64)
    assert time.process_time() - before < 1
