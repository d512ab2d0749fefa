from __future__ import annotations

from pipeline.compare.choice import choose
from tests.fakes.comparison import compared_option


def test_the_best_is_taken_where_no_cheaper_one_is_close() -> None:
    best = compared_option("lite2", 0.30, cpu_ms=20.0)
    other = compared_option("lite0", 0.35, behind=0.05, error=0.02)
    made = choose([other, best], 0.0)
    assert made.option is best
    assert made.sentence == (
        "Take lite2: it has the least log loss of 2 options, and no other option is within one standard "
        "error."
    )


def test_a_cheaper_one_is_taken_within_one_standard_error() -> None:
    best = compared_option("lite2", 0.30, cpu_ms=20.0)
    cheap = compared_option("lite0", 0.31, behind=0.01, error=0.02)
    assert choose([best, cheap], 0.0).sentence == (
        "Take lite0: its log loss is 0.0100 above the least of 2 options, that of lite2, and that is within "
        "one standard error (0.0200), at 50% of the CPU time per picture."
    )


def test_the_present_model_is_kept_where_the_pictures_do_not_tell_it_from_the_best() -> None:
    best = compared_option("logistic", 0.30, cpu_ms=9.8)
    present = compared_option("dense", 0.31, behind=0.01, error=0.02, parameters={})
    made = choose([best, present], 0.0)
    assert made.option is present
    assert made.sentence.startswith("Keep dense, the present model: ")
    assert made.sentence.endswith("so the training pictures do not tell the two apart.")


def test_what_choosing_gains_is_taken_off_the_difference_first() -> None:
    best = compared_option("logistic", 0.30)
    present = compared_option("dense", 0.33, behind=0.03, error=0.02, parameters={})
    assert choose([best, present], 0.0).option is best
    made = choose([best, present], 0.015)
    assert made.option is present
    assert "one standard error (0.0200) and the gain of choosing the least (0.0150)" in made.sentence


def test_one_option_needs_no_reason() -> None:
    present = compared_option("dense", 0.3, parameters={})
    assert choose([present], 0.0).sentence == "Keep dense, the present model: there is no other option."
