from __future__ import annotations

import pytest

from pipeline.run_name import run_name


@pytest.mark.parametrize(
    ("run_id", "expected"),
    [
        ("manual__2026-11-26T14:03:09.123456+00:00", "26 Nov 2026 14:03, by hand"),
        ("manual__2026-11-26T14:03:09.123456+00:00_Xy9Q0aBc", "26 Nov 2026 14:03, by hand"),
        ("scheduled__2026-01-02T00:00:00+00:00", "2 Jan 2026 00:00, by schedule"),
        ("asset_triggered__2026-01-02T01:30:00+02:00_AbC1", "1 Jan 2026 23:30, by new pictures"),
        ("backfill__2026-01-02T00:00:00+00:00", "2 Jan 2026 00:00, by backfill"),
    ],
)
def test_a_run_is_named_by_when_and_by_what_it_was_started(run_id: str, expected: str) -> None:
    assert run_name(run_id) == expected


@pytest.mark.parametrize("run_id", ["first", "manual__1", "manual__", "a__2026-01-02", "manual__2026-13-02"])
def test_an_id_that_somebody_gave_stays_as_it_is(run_id: str) -> None:
    assert run_name(run_id) == run_id
