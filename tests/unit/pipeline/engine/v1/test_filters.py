from __future__ import annotations

import re
import time

import pytest

from pipeline.engine.v1.filters import read_filter
from pipeline.errors import InvalidArgument

JOB = {
    "jobId": "rnn_1",
    "state": "FAILED",
    "createTime": "2026-11-02T10:00:00.000000Z",
    "labels": {"my_owner": "me", "team": ""},
    "trainingInput": {"scaleTier": "BASIC", "args": ["--epochs", "3"]},
    "predictionOutput": {"errorCount": "12"},
    "name": "projects/p/models/m",
    "done": True,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jobId:rnn*", True),
        ("job_id:rnn*", True),
        ("jobId:cnn*", False),
        ("jobId:rnn", False),
        ("jobId:*_1", True),
        ('jobId="rnn_1"', True),
        ("jobId:rnn* AND state:FAILED", True),
        ("jobId:rnn* state:FAILED", True),
        ("jobId:rnn* AND state:RUNNING", False),
        ("state:RUNNING OR state:FAILED", True),
        ("NOT state:FAILED", False),
        ("-state:RUNNING", True),
        ("state!=FAILED", False),
        ("state != RUNNING", True),
        ("(state:RUNNING OR state:FAILED) AND jobId:cnn*", False),
        ("state:RUNNING OR (state:FAILED AND jobId:rnn*)", True),
        ("createTime>2026-11-01T00:00:00Z", True),
        ("createTime<2026-11-01", False),
        ("labels.my_owner:me", True),
        ("labels:my_owner", True),
        ("labels:other", False),
        ("labels.other:*", False),
        ("trainingInput.scaleTier=BASIC", True),
        ("training_input.scale_tier=BASIC", True),
        ("trainingInput.args:--epochs", True),
        ("predictionOutput.errorCount>=9", True),
        ("predictionOutput.errorCount>100", False),
        ("name:m", True),
        ("name:projects/p/models/m", True),
        ("name:n", False),
        ("done:true", True),
        ("nothing:x", False),
        ("nothing!=x", True),
    ],
)
def test_a_filter_picks(text, expected):
    assert read_filter(text)(JOB) is expected


@pytest.mark.parametrize("text", [None, "", "  "])
def test_no_filter_picks_everything(text):
    assert read_filter(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "jobId",
        "jobId:",
        ":x",
        "jobId:a AND",
        "AND jobId:a",
        "(jobId:a",
        "jobId:a)",
        "()",
        "NOT",
        'jobId:"a',
        "jobId:a OR OR jobId:b",
        "(" * 21 + "a:b" + ")" * 21,
        "NOT " * 500 + "a:b",
        "\x00",
    ],
)
def test_what_cannot_be_read_is_said(text):
    with pytest.raises(InvalidArgument, match="jobId:rnn"):
        read_filter(text)


def test_the_longest_chain_is_read():
    assert read_filter("NOT " * 240 + "done:true")(JOB) is True


@pytest.mark.parametrize("text", ["jobId:*a*a*a*a*a*b", "jobId:" + "*a" * 20, "jobId:" + "*aa" * 19 + "*b"])
def test_wildcards_take_linear_time(text):
    matches, before = read_filter(text), time.process_time()
    matches({"jobId": "a" * 1_000_000})
    assert time.process_time() - before < 0.5


@pytest.mark.parametrize(
    "pattern", ["*", "a*", "*a", "a*a", "a*b*a", "*ab*ab*", "ab", "a**b", "*b*a", "aba*aba"]
)
def test_wildcards_match_what_a_regular_expression_matches(pattern):
    expected = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    for text in ("a", "b", "ab", "aba", "abab", "abba", "aab", "a\nb", "aa", "ababa", "abaaba"):
        assert read_filter(f"jobId:{pattern}")({"jobId": text}) is bool(expected.fullmatch(text)), text


@pytest.mark.parametrize("text", ["jobId:" + "*a" * 21, " ".join(["a:b"] * 51)])
def test_the_cost_of_a_filter_is_bounded(text):
    with pytest.raises(InvalidArgument, match="at most"):
        read_filter(text)
