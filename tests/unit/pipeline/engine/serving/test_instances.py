from __future__ import annotations

import base64
import json
import math

import pytest

from pipeline.engine.serving.instances import (
    Infinite,
    PredictionFailed,
    base64_bytes,
    check_line,
    columns_of,
    decode_b64,
    parse_json,
    read_request,
    rows_of,
)
from pipeline.errors import InvalidArgument

BYTES = bytes(range(256))


class TestBase64:
    @pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
    @pytest.mark.parametrize("padding", ["", "="])
    def test_both_alphabets_with_and_without_padding_and_line_breaks(self, encode, padding):
        text = encode(BYTES).decode()
        assert base64_bytes(text if padding else text.replace("=", "")) == BYTES

    @pytest.mark.parametrize("text", ["+A==", "AA A", " AAA", "AAA "])
    def test_a_space_is_a_damaged_plus_and_never_dropped(self, text):
        with pytest.raises(PredictionFailed, match=r"has spaces|Unable"):
            base64_bytes(text.replace("+", " "))

    def test_damage_is_named_by_instance_and_input(self):
        with pytest.raises(PredictionFailed, match=r"has spaces.* \(instance 1, input a\)"):
            columns_of([{"a": {"b64": "AAAA"}}, {"a": {"b64": "A AA"}}], ["a"])

    @pytest.mark.parametrize("value", ["a", "ab!c", "é", None, 3, ["YQ=="]])
    def test_anything_else_is_an_error(self, value):
        with pytest.raises(PredictionFailed, match="Unable to base64 decode"):
            base64_bytes(value)

    def test_b64_objects_are_decoded_wherever_they_stand_and_strings_are_untouched(self):
        packed = {"b64": base64.b64encode(b"hi").decode()}
        assert decode_b64([{"a": [packed, "aGk="]}, packed]) == [{"a": [b"hi", "aGk="]}, b"hi"]

    def test_an_object_with_more_keys_is_not_bytes(self):
        assert decode_b64({"b64": "aGk=", "x": 1}) == {"b64": "aGk=", "x": 1}


class TestLines:
    def test_a_request_is_no_line_of_a_batch(self):
        with pytest.raises(PredictionFailed, match='write each of the "instances" on a line of its own'):
            check_line({"instances": [1, 2]}, ["x"])

    def test_an_input_may_have_that_name(self):
        check_line({"instances": [1, 2]}, ["instances"])
        check_line({"x": 1}, ["x"])


class TestNumbers:
    def test_an_infinity_that_was_written_is_told_from_one_that_was_not(self):
        assert [type(value) for value in parse_json(b"[Infinity, 1e999, NaN]")] == [Infinite, float, Infinite]


class TestColumns:
    def test_one_input_takes_bare_values_and_objects(self):
        assert columns_of([1, {"x": 2}, [3]], ["x"]) == {"x": [1, 2, [3]]}

    def test_several_inputs(self):
        assert columns_of([{"a": 1, "b": 2}, {"b": 4, "a": 3}], ["a", "b"]) == {"a": [1, 3], "b": [2, 4]}

    @pytest.mark.parametrize(
        ("instances", "aliases", "text"),
        [
            ([1, {"y": 1}], ["x"], r"Instance 1: Expected tensor name: x, got tensor name: \['y'\]"),
            ([{"a": 1}], ["a", "b"], "Instance 0: Input b was missing in at least one input instance"),
            ([{"a": 1, "b": 2, "c": 3}], ["a", "b"], r"Input mismatch: \['c'\]"),
            ([7], ["a", "b"], "expected an object with the inputs"),
        ],
    )
    def test_what_does_not_fit_is_named(self, instances, aliases, text):
        with pytest.raises(PredictionFailed, match=text):
            columns_of(instances, aliases)


class TestRows:
    def test_only_aliases_that_end_in_bytes_are_sent_as_base64(self):
        rows = rows_of({"n": [1.5, 2.5], "text": ["é".encode(), b""], "raw_bytes": [b"\xff", [b"a"]]}, 2)
        assert rows == [
            {"n": 1.5, "text": "é", "raw_bytes": {"b64": "/w=="}},
            {"n": 2.5, "text": "", "raw_bytes": [{"b64": "YQ=="}]},
        ]

    def test_bytes_under_another_alias_must_be_text(self):
        with pytest.raises(PredictionFailed, match="name it raw_bytes"):
            rows_of({"raw": [b"\xff"]}, 1)

    def test_an_output_needs_a_row_for_each_instance(self):
        with pytest.raises(PredictionFailed, match="Output y has 1 rows for 2 instances"):
            rows_of({"y": [1]}, 2)

    def test_numbers_that_json_lacks_are_spelled_as_proto3_does(self):
        rows = rows_of({"y": [[math.nan, math.inf, -math.inf]]}, 1)
        assert json.dumps(rows, allow_nan=False) == '[{"y": ["NaN", "Infinity", "-Infinity"]}]'


class TestRequest:
    def test_both_spellings_of_the_signature_and_its_default(self):
        assert read_request(b'{"instances": []}').signature_name == "serving_default"
        assert read_request(b'{"instances": [], "signature_name": "a"}').signature_name == "a"
        assert read_request(b'{"instances": [], "signatureName": "a", "more": 1}').signature_name == "a"

    @pytest.mark.parametrize(
        "body", [b"", b"\xff", b"[" * 100_000, b"[]", b"{}", b'{"instances": [], "signature_name": 1}']
    )
    def test_a_malformed_body_is_refused(self, body):
        with pytest.raises(InvalidArgument):
            read_request(body)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_body_that_is_not_utf8_is_refused(encoding):
    with pytest.raises(InvalidArgument, match="Invalid JSON payload"):
        read_request('{"instances": ["é"]}'.encode(encoding))
