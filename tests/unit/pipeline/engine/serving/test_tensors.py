from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.engine.serving.instances import Infinite, PredictionFailed
from pipeline.engine.serving.tensors import InputSpec, array_of, values_of


def spec(dtype: str, *sizes: int | None) -> InputSpec:
    return InputSpec(name="x", dtype=dtype, shape=(None, *sizes))


class TestIntegers:
    @pytest.mark.parametrize(
        ("dtype", "value"),
        [
            *(("uint8", 256), ("uint8", -1), ("uint8", 300.0), ("int8", -129), ("int16", 32768)),
            *(("int32", 2**31), ("uint32", 2**32), ("int64", 2**63), ("uint64", 2**64), ("uint64", -1)),
            *(("int64", 2.0**63), ("int32", 10**400)),
        ],
    )
    def test_out_of_range_is_refused_by_value_instance_and_input(self, dtype, value):
        with pytest.raises(PredictionFailed, match=rf"is out of range of {dtype} .*\(instance 1, input x\)"):
            array_of([1, value], spec(dtype))

    def test_300_is_not_44(self):
        with pytest.raises(PredictionFailed, match=r"300 is out of range of uint8 \(0 to 255\)"):
            array_of([[[300, 1]]], spec("uint8", 1, 2))

    def test_whole_floats_and_booleans_are_taken(self):
        assert array_of([1.0, True, -7, -0.0], spec("int32")).tolist() == [1, 1, -7, 0]

    @pytest.mark.parametrize("value", [1.5, math.nan, Infinite("inf"), "7", None, b"7", {"a": 1}])
    def test_what_is_no_whole_number_is_refused(self, value):
        with pytest.raises(PredictionFailed, match=r"\(instance 0, input x\)"):
            array_of([value], spec("int64"))

    def test_large_ones_beside_floats_keep_their_last_digit(self):
        assert array_of([2**53 + 1, 1.0], spec("int64")).tolist() == [2**53 + 1, 1]

    def test_the_largest_unsigned_one_beside_a_negative_one_is_not_rounded(self):
        assert array_of([2**64 - 1, 0], spec("uint64")).tolist() == [2**64 - 1, 0]


class TestOtherTypes:
    def test_booleans_are_true_false_0_and_1(self):
        assert array_of([True, 0, 1.0], spec("bool")).tolist() == [True, False, True]
        with pytest.raises(PredictionFailed, match="expected true or false. Received: 2"):
            array_of([2], spec("bool"))

    def test_a_float_beyond_the_type_is_refused_and_a_written_infinity_is_not(self):
        assert array_of([Infinite("inf"), 1], spec("float32")).tolist() == [math.inf, 1.0]
        for value in (1e39, math.inf, -(10**400)):  # the second is what Python makes of 1e999
            with pytest.raises(PredictionFailed, match="is out of range of float32"):
                array_of([value], spec("float32"))

    def test_strings_keep_their_zero_bytes(self):
        assert array_of(["a\0", b"\0\0"], spec("string")).tolist() == [b"a\0", b"\0\0"]

    def test_an_error_spells_values_as_json_does(self):
        for value, text in ((True, "true"), (None, "null")):
            with pytest.raises(PredictionFailed, match=f"expected a string. Received: {text} "):
                array_of([value], spec("string"))

    @pytest.mark.parametrize("value", [1, None, "\ud800", [["a"]]])
    def test_what_is_no_string_is_refused(self, value):
        with pytest.raises(PredictionFailed, match=r"\(instance 0, input x\)"):
            array_of([value], spec("string"))

    def test_a_type_that_json_has_not_is_named(self):
        with pytest.raises(PredictionFailed, match="JSON has no values of the type resource"):
            array_of([1], spec("resource"))

    def test_outputs_that_json_has_not_are_named(self):
        assert values_of("y", np.float32([[1.5]])) == [[1.5]]
        with pytest.raises(PredictionFailed, match="Output y has complex numbers"):
            values_of("y", np.complex64([1]))


class TestShapes:
    def test_a_wrong_shape_is_named_with_the_one_that_is_expected(self):
        with pytest.raises(PredictionFailed, match=r"expected the shape \(2, any\). Received: \(3,\)"):
            array_of([[1, 2, 3]], spec("int32", 2, None))

    @pytest.mark.parametrize("values", [[[1, 2], [1]], [[1, [2]], [1, 2]], [[1, 2], 3]])
    def test_ragged_instances_are_refused_and_no_array_is_printed(self, values):
        with pytest.raises(PredictionFailed, match=r"Error processing input: .*\(instance [01], input x\)"):
            array_of(values, spec("float32", None))

    def test_an_input_without_a_batch_is_named(self):
        with pytest.raises(PredictionFailed, match="one value for the whole request"):
            array_of([1.0], InputSpec(name="rate", dtype="float32", shape=()))

    def test_any_rank_is_taken_where_the_model_takes_any(self):
        assert array_of([[[1]]], InputSpec(name="x", dtype="int8", shape=None)).shape == (1, 1, 1)

    def test_an_error_is_short_however_long_the_value(self):
        with pytest.raises(PredictionFailed) as caught:
            array_of(["x" * 10_000_000], spec("int32"))
        assert len(caught.value.message) < 200
