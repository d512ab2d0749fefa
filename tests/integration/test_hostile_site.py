"""Every row of the threat table for downloads, by real sockets: refused with its reason, good ones kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.fetch_index import FetchedRow
from pipeline.errors import UndecodableImage
from pipeline.pixels.host import decode_picture
from tests.fakes.pictures import jpeg, noise, png, storage_in
from tests.fakes.rows import index_rows
from tests.fakes.site import (
    Site,
    busy,
    drip,
    drip_headers,
    endless,
    flat_png,
    gzip_bomb,
    redirect,
    says_length,
    site_running,
)

ROOT = Path(__file__).resolve().parents[2]
GOOD = 12
MEMORY_LIMIT = 300_000_000
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


def threats(site: Site) -> dict[str, str]:
    """Serve every threat and return its address with the reason that it must be refused with."""
    good = png(noise(99, 80))
    other_port = int(site.host.rpartition(":")[2]) - 1
    for number in range(9):
        site.add_answer(f"/chain/{number}", redirect(f"/chain/{number + 1}"))
    site.add("/chain/9", good)
    rows = {
        "too_slow": site.add_answer("/drip", drip),
        "timeout": site.add_answer("/headers", drip_headers),
        "too_large": site.add_answer("/endless", endless),
        "too_large 2": site.add_answer("/says-much", says_length(good, 10**12)),
        "cut_short": site.add_answer("/lies", says_length(good, len(good) + 1000)),
        "too_large 3": site.add_answer("/gzip", gzip_bomb(200_000_000)),
        "bad_encoding": site.add("/brotli", good, Content_Encoding="br"),
        "too_many_pixels": site.add("/bomb100.png", flat_png(10_000)),
        "too_many_pixels 2": site.add("/bomb400.png", flat_png(20_000)),
        "unsupported_format": site.add("/picture.svg", SVG, type="image/svg+xml"),
        "not_an_image": site.add("/page.jpg", b"<html><script>alert(1)</script>", type="image/jpeg"),
        "not_an_image 2": site.add("/zip.jpg", b"PK\x03\x04" + png(noise(1)), type="image/jpeg"),
        "damaged_header": site.add("/gifar.gif", b"GIF89a" + b"PK\x03\x04" * 40, type="image/gif"),
        "empty_file": site.add("/empty.png", b""),
        "too_many_redirects": site.url("/chain/0"),
        "too_many_redirects 2": site.add_answer("/loop", redirect("/loop")),
        "bad_redirect": site.add_answer("/file", redirect("file:///etc/passwd")),
        "port_not_allowed": site.add_answer("/port", redirect(f"http://127.0.0.1:{other_port}/")),
        "private_address": site.add_answer("/metadata", redirect("http://169.254.169.254/latest/")),
        "private_address 2": site.add_answer("/mapped", redirect("http://[::ffff:127.0.0.1]/")),
        "private_address 3": site.add_answer("/decimal", redirect("http://2130706433/")),
        "private_address 4": site.add_answer("/zero", redirect("http://0.0.0.0/")),
        "rate_limited": site.add_answer("/always-busy", busy(99, "0", good)),
        "server_error": site.add("/broken", b"", status=503),
        "refused": site.add("/forbidden", b"", status=403),
        "not_found": site.url("/none.png"),
        "opted_out": site.add("/noai.png", good, X_Robots_Tag="noai, noimageai"),
        "opted_out 2": site.add("/ours.png", good, X_Robots_Tag="graft: noindex"),
        "placeholder": site.add_answer("/gone", redirect("/images/photo_unavailable.png")),
        "placeholder 2": site.add("/gone2", png(noise(5, 20)).ljust(2051, b"\0")),
        "bad_url": "ftp://example.org/a.png",
        "bad_url 2": "http://exa mple.org/a.png",
    }  # fmt: skip
    site.add("/images/photo_unavailable.png", png(noise(5, 80)))
    return rows


def good_ones(site: Site) -> list[str]:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    return [
        *site.add_pictures(GOOD),
        site.add_answer("/busy-seconds", busy(2, "1", png(noise(201, 80)))),
        site.add_answer("/busy-date", busy(2, later, png(noise(202, 80)))),
        site.add_answer("/moved", redirect("/good/moved.png")),
        site.url("/../../etc/p%61sswd/CON.png?" + "n" * 300),
        site.add("/truncated.jpg", jpeg(noise(204, 300))[:-2000]),  # `clean` decodes it whole and says so
    ]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_running() as running:
        yield running


@pytest.fixture(scope="module")
def fetched(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, str]]:
    directory = tmp_path_factory.mktemp("hostile")
    rows, good = threats(site), good_ones(site)
    site.add("/good/moved.png", png(noise(205, 80)))
    site.add("/etc/passwd/CON.png", png(noise(203, 80)))
    lines = [f"{url},{'bad' if number % 2 else 'good'}" for number, url in enumerate(rows.values())]
    lines += [f"{url},{'bad' if number % 2 else 'good'}" for number, url in enumerate(good)]
    (directory / "list.csv").write_text("url,label\n" + "\n".join(lines) + "\n")
    environment = {**os.environ, "GRAFT_FETCH_ALLOW": site.host, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests/integration/hostile_fetch.py")]
    done = subprocess.run(
        [*command, str(directory / "list.csv"), str(directory / "bucket")],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    found = index_rows(storage_in(directory), result["index"])
    result["rows"] = found
    result["storage"] = storage_in(directory)
    return result, rows


def test_each_threat_is_refused_with_its_own_reason(
    fetched: tuple[dict[str, Any], dict[str, str]],
) -> None:
    result, rows = fetched
    found = {row.source_url: row.reason for row in result["rows"]}
    expected = {url: name.partition(" ")[0] for name, url in rows.items()}
    assert {url: found[url] for url in expected} == expected


def test_the_good_pictures_are_kept(fetched: tuple[dict[str, Any], dict[str, str]], site: Site) -> None:
    result, rows = fetched
    kept: list[FetchedRow] = [row for row in result["rows"] if row.reason is None]
    assert len(kept) == GOOD + 5
    assert result["found"] == len(kept)
    assert sum(result["refused"].values()) == len(rows)


def test_a_body_that_ends_early_is_found_by_decoding(fetched: tuple[dict[str, Any], dict[str, str]]) -> None:
    result, _ = fetched
    row = next(row for row in result["rows"] if row.source_url.endswith("/truncated.jpg"))
    with pytest.raises(UndecodableImage) as caught:
        decode_picture(result["storage"].read_bytes(f"gs://graft/blobs/{row.blob}"))
    assert caught.value.reason == "truncated"


def test_memory_stays_within_300_megabytes_of_idle(
    fetched: tuple[dict[str, Any], dict[str, str]],
) -> None:
    result, _ = fetched
    assert result["memory"] < MEMORY_LIMIT


def test_names_of_the_site_name_no_file(fetched: tuple[dict[str, Any], dict[str, str]]) -> None:
    result, _ = fetched
    for uri in result["storage"].list_uris("gs://graft/"):
        name = uri.rpartition("/")[2]
        assert len(name) == 64 or name == "00000.jsonl"


def test_private_hosts_are_never_reached(fetched: tuple[dict[str, Any], dict[str, str]], site: Site) -> None:
    assert site.requests["/latest/"] == 0
    assert site.requests["/"] == 0
