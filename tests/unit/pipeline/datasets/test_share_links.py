from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, strategies as st

from pipeline.datasets.fetcher.share_links import find_direct_link

DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id=1A_b-2"


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("https://www.dropbox.com/s/abc/a.zip?dl=0", "https://www.dropbox.com/s/abc/a.zip?dl=1"),
        (
            "https://www.dropbox.com/scl/fi/abc/a.zip?rlkey=k&dl=0",
            "https://www.dropbox.com/scl/fi/abc/a.zip?rlkey=k&dl=1",
        ),
        ("https://www.dropbox.com/s/abc/a.zip", "https://www.dropbox.com/s/abc/a.zip?dl=1"),
        ("https://drive.google.com/file/d/1A_b-2/view?usp=sharing", DRIVE),
        ("https://drive.google.com/file/u/1/d/1A_b-2/edit", DRIVE),
        ("https://drive.google.com/open?id=1A_b-2", DRIVE),
        ("https://drive.google.com/uc?export=download&id=1A_b-2", DRIVE),
        (
            "https://docs.google.com/spreadsheets/d/1A_b-2/edit?usp=sharing#gid=7",
            "https://docs.google.com/spreadsheets/d/1A_b-2/export?format=csv&gid=7",
        ),
        ("https://github.com/o/r/blob/main/data/a.zip", "https://github.com/o/r/raw/main/data/a.zip"),
        ("https://gitlab.com/g/s/r/-/blob/main/a.zip", "https://gitlab.com/g/s/r/-/raw/main/a.zip"),
        (
            "https://huggingface.co/datasets/o/r/blob/main/a.zip",
            "https://huggingface.co/datasets/o/r/resolve/main/a.zip",
        ),
        ("https://huggingface.co/o/r/blob/main/a.zip", "https://huggingface.co/o/r/resolve/main/a.zip"),
    ],
)
def test_a_link_for_sharing_leads_to_its_file(url: str, direct: str) -> None:
    assert find_direct_link(url) == direct
    assert find_direct_link(direct) == direct


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/s/a.zip?dl=0",
        "https://dropbox.com.example.org/s/abc/a.zip?dl=0",
        "https://github.com/o/r/releases/download/v1/a.zip",
        "https://github.com/blob/blob/raw/main/a.zip",
        "https://drive.google.com/drive/folders/1A_b-2",
        "gs://graft/a.zip",
        "data/a.zip",
        "http://[",
    ],
)
def test_other_addresses_stay_as_they_are(url: str) -> None:
    assert find_direct_link(url) == url


@given(st.sampled_from(["https://www.dropbox.com/s/", "https://github.com/"]), st.text(max_size=40))
def test_no_link_leads_to_another_place(start: str, rest: str) -> None:
    url = start + rest
    direct = find_direct_link(url)
    assert urlsplit(direct).netloc == urlsplit(url).netloc
