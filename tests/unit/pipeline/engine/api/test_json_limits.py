from __future__ import annotations

import gzip
import json
import time
from contextlib import suppress

import pytest

from pipeline.engine.api.json_limits import check_depth, check_utf8, unpack_gzip
from pipeline.errors import InvalidArgument


class TestGzip:
    def test_a_body_is_unpacked(self):
        assert unpack_gzip(gzip.compress(b"x" * 100), 100) == b"x" * 100

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"{}", "is not gzip"),
            (gzip.compress(b"x" * 90)[:-9], "cut off"),
            (gzip.compress(b"x") + b"more", "after its end"),
            (gzip.compress(b"x" * 101), "exceeds the limit: 100 bytes, unpacked"),
            (gzip.compress(b"\0" * 50_000_000), "exceeds the limit: 100 bytes, unpacked"),
        ],
        ids=["no gzip", "cut off", "with more", "one byte more", "a bomb"],  # gzip writes the time
    )
    def test_what_is_damaged_or_too_large_is_refused(self, body, text):
        with pytest.raises(InvalidArgument, match=text):
            unpack_gzip(body, 100)


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


@pytest.mark.parametrize(
    "pattern", [b'""', b"[]", b"[" * 5_000_000 + b"]" * 5_000_000, rb"\"", b"[][", b'"["[]', b'"[" ']
)
def test_no_ten_megabytes_take_long(pattern):
    body, before = pattern * (10_000_000 // len(pattern)), time.process_time()
    with suppress(InvalidArgument):
        check_depth(body, 64)
    assert time.process_time() - before < 3


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 40_000])
def test_depth_and_strings_span_the_pieces_that_are_measured(size):
    check_depth(b'["' + b"[" * size + b'"]', 1)
    check_depth(b"[[]," * (size // 4) + b"[" + b"]" * (size // 4 + 1), size // 4 + 1)
    with pytest.raises(InvalidArgument):
        check_depth(b"[]," * size + nested(9), 8)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ['{"instances":["\u0122",[[["x"]]]]}', "{}", "1"])
def test_other_encodings_are_refused(encoding, text):
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        check_utf8(text.encode(encoding))


@pytest.mark.parametrize("body", [b"", b"{}", "{é}".encode(), "\ufeff{}".encode()])
def test_utf8_passes(body):
    check_utf8(body)
