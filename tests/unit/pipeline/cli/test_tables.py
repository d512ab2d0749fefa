from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.cli.tables import Moment, PathText, RunId, ago, print_table, shorten

RUN = "manual__2026-01-02T03:04:05.678901+00:00"


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    row = (
        RunId(RUN),
        Moment("2026-01-02T03:04:05.678901Z"),
        PathText("/a" * 60 + "/one.jpg"),
        "long " * 40,
        0.5,
    )
    print_table(("run", "at", "file", "reason", "score"), [row])
    lines = printed(capsys)
    assert max(map(len, lines)) <= 80
    assert lines[1].endswith("0.5000")
    assert "one.jpg" in lines[1]
    assert "…" in lines[1]
    assert "678901" not in lines[1]


def test_a_wide_table_shortens_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    file = "/a" * 60 + "/one.jpg"
    print_table(("run", "at", "file"), [(RunId(RUN), Moment("2026-01-02T03:04:05.678901Z"), file)], wide=True)
    assert printed(capsys)[1].split() == [RUN, "2026-01-02T03:04:05Z", file]


def test_a_wider_terminal_is_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_table(("reason",), [("word " * 30,)])
    assert len(printed(capsys)[1]) > 140


def test_columns_stay_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("class", "pictures"), [("grass", 2), ("x" * 90, None), ("", True)])
    lines = printed(capsys)
    assert {line.index(word) for line, word in zip(lines, ("pictures", "2", "-", "yes"), strict=True)} == {72}


def test_a_table_without_rows_has_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("class", "pictures"), [])
    assert printed(capsys) == ["  class   pictures"]


def test_numbers_are_never_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("n", "text"), [(10**70, "a" * 70)])
    assert str(10**70) in printed(capsys)[1]


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-01-02T12:00:00Z", "just now"),
        ("2026-01-02T11:58:00.5Z", "1 min ago"),
        ("2026-01-02T09:00:00Z", "3 h ago"),
        ("2025-12-30T09:00:00+00:00", "3 d ago"),
    ],
)
def test_times_are_told_by_their_distance(time: str, text: str) -> None:
    assert ago(time, now=datetime(2026, 1, 2, 12, tzinfo=UTC)) == text


def test_a_text_loses_its_end_and_a_path_its_beginning() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abcdef", 4, at_start=True) == "…def"
    assert shorten("abc", 4) == "abc"
