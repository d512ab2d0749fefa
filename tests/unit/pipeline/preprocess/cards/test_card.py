"""The cards of a version: a page for people, Croissant for machines, attribution for makers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.dataset import read_info
from pipeline.artifacts.fetch_index import FetchedRow, FetchHead, RowSpool, write_index
from pipeline.artifacts.steps import CleanResult
from pipeline.preprocess.cards.attribution import render_attribution, web_address
from pipeline.preprocess.clean import build_dataset_version
from pipeline.storage import Storage
from tests.fakes.pictures import WORKSPACE, folder_classifier, noise, png, storage_in
from tests.fakes.rows import dataset_folder, manifest_rows, workspace_of

HOSTILE = '<script>alert("x")</script> [link](javascript:alert) | * '


def web_row(storage: Storage, number: int, *, label: str = "ant", size: int = 80, **facts: Any) -> FetchedRow:
    data = png(noise(number, size))
    blob = hashlib.sha256(data).hexdigest()
    storage.create_bytes(f"{WORKSPACE}/blobs/{blob}", data)
    return FetchedRow.from_dict(
        {
            "position": number,
            "label": label,
            "source_url": f"https://pictures.example/{number}.png",
            "validator": "",
            "blob": blob,
            "retrieved_at": "2026-01-01T00:00:00+00:00",
            "network": True,
            "license": "CC BY 4.0",
            "license_url": "https://creativecommons.org/licenses/by/4.0/",
            "creator": "A. Maker",
            "page_url": f"https://pictures.example/page/{number}",
            **facts,
        }
    )


def change(row: FetchedRow, **values: Any) -> FetchedRow:
    return FetchedRow.from_dict({**row.to_dict(), **values})


def clean(rows: list[FetchedRow], storage: Storage, *, requests: int = 0) -> CleanResult:
    uri = dataset_folder(storage).fetch_index(0)
    spool = RowSpool()
    for row in rows:
        spool.add(row)
    write_index(storage, uri, FetchHead(requests=requests), spool)
    spool.close()
    return build_dataset_version(
        workspace_of(storage), folder_classifier(Path("/nowhere")), fetched=[uri], run_id="r"
    )


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


@pytest.fixture
def rows(storage: Storage) -> list[FetchedRow]:
    return [web_row(storage, number, label="ant" if number % 2 else "cat") for number in range(30)]


class TestNetworkRules:
    def test_the_same_bytes_from_three_addresses_are_a_placeholder(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        same = web_row(storage, 99)
        rows += [change(same, position=99 + n, source_url=f"https://x.example/{n}") for n in range(3)]
        result = clean(rows, storage)
        assert result.rejected == {"placeholder": 3}
        assert result.pictures == 30

    def test_two_addresses_or_one_address_thrice_are_duplicates(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        same = web_row(storage, 99)
        rows += [same, change(same, position=100, source_url="https://x.example/1")]
        rows += [change(same, position=101)]
        assert clean(rows, storage).rejected == {"exact_duplicate": 2}

    def test_small_pictures_of_the_network_are_icons(self, rows: list[FetchedRow], storage: Storage) -> None:
        rows += [web_row(storage, 98, size=63), web_row(storage, 99, size=64)]
        result = clean(rows, storage)
        assert result.rejected == {"too_small": 1}
        assert result.pictures == 31

    def test_blank_pictures_of_the_network_are_no_pictures(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        data = png(np.full((80, 80, 3), 250, np.uint8))
        blank = hashlib.sha256(data).hexdigest()
        storage.create_bytes(f"{WORKSPACE}/blobs/{blank}", data)
        web = change(web_row(storage, 98), blob=blank)
        local = change(web, position=99, source_url="file:///blank.png", network=False)
        result = clean([*rows, web, local], storage)
        assert result.rejected == {"low_information": 1}
        assert result.pictures == 31

    def test_other_sources_have_no_minimum_and_no_placeholders(self, storage: Storage) -> None:
        rows = [web_row(storage, n, label="ant" if n % 2 else "cat", size=8) for n in range(30)]
        rows += [change(rows[0], position=30 + n, source_url=f"file:///{n}") for n in range(3)]
        result = clean([change(row, network=False) for row in rows], storage)
        assert result.rejected == {"exact_duplicate": 3}

    def test_what_the_source_could_not_give_is_counted_by_its_reason(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        rows += [
            change(rows[0], position=40 + n, blob="", source_url=f"https://x.example/{n}", reason=reason)
            for n, reason in enumerate(["not_found", "not_found", "robots"])
        ]
        result = clean(rows, storage, requests=33)
        assert result.rejected == {"not_found": 2, "robots": 1}
        assert result.decoded == 30
        info = read_info(dataset_folder(storage).version(result.version))
        assert (info.found, info.requests) == (33, 33)
        assert info.licenses == {"CC BY 4.0": 30}
        assert info.mix == {"pictures.example": 30}


class TestCroissant:
    def test_has_the_shape_that_the_specification_asks_for(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        result = clean(rows, storage)
        card = storage.read_json(f"{result.uri}/croissant.json")
        assert (card["@type"], card["conformsTo"]) == ("sc:Dataset", "http://mlcommons.org/croissant/1.0")
        assert {"name", "description", "license", "url", "version", "datePublished"} <= set(card)
        assert re.fullmatch(r"\d+\.\d+\.\d+(\+[0-9A-Za-z-]+)?", card["version"])
        assert {"cr", "sc", "dct", "@vocab", "recordSet", "field", "source"} <= set(card["@context"])
        assert card["url"] == result.uri
        [file] = card["distribution"]
        manifest = storage.read_bytes(f"{result.uri}/{file['contentUrl']}")
        assert file["@type"] == "cr:FileObject"
        assert file["sha256"] == hashlib.sha256(manifest).hexdigest()
        assert file["contentSize"] == f"{len(manifest)} B"
        sets = {each["@id"]: each for each in card["recordSet"]}
        assert {each["@type"] for each in sets.values()} == {"cr:RecordSet"}
        assert [row["classes/name"] for row in sets["classes"]["data"]] == ["ant", "cat"]
        columns = set(json.loads(manifest.splitlines()[0]))
        for field in sets["pictures"]["field"]:
            assert field["@type"] == "cr:Field"
            assert field["@id"].startswith("pictures/")
            assert field["dataType"].startswith("sc:")
            assert field["source"]["fileObject"] == {"@id": file["@id"]}
            assert field["source"]["extract"]["column"] in columns


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class TestPage:
    def test_hostile_text_is_shown_and_never_runs(self, rows: list[FetchedRow], storage: Storage) -> None:
        rows = [
            change(
                row, creator=HOSTILE, license=HOSTILE, page_url="javascript:alert(1)", label=f"<b>{row.label}"
            )
            for row in rows
        ]
        result = clean(rows, storage)
        page = storage.read_bytes(f"{result.uri}/card.html").decode()
        tags = Tags()
        tags.feed(page)
        assert "script" not in {tag for tag, _ in tags.found}
        assert "b" not in {tag for tag, _ in tags.found}
        assert "&lt;script&gt;" in page
        links = {facts["href"] for tag, facts in tags.found if tag == "a"}
        assert links
        assert all(str(link).startswith("https://pictures.example/") for link in links)
        for name in ("README.md", "ATTRIBUTION.md"):
            text = storage.read_bytes(f"{result.uri}/{name}").decode()
            assert "<script>" not in text
            assert "](javascript" not in text

    def test_is_self_contained_and_shows_thumbnails_only(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        result = clean(rows, storage)
        page = storage.read_bytes(f"{result.uri}/card.html").decode()
        tags = Tags()
        tags.feed(page)
        images = [str(facts["src"]) for tag, facts in tags.found if tag == "img"]
        assert len(images) == 30
        assert all(image.startswith("data:image/jpeg;base64,/9j/") for image in images)
        policies = [facts["content"] for tag, facts in tags.found if facts.get("http-equiv")]
        assert len(policies) == 1
        assert str(policies[0]).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
        assert not {"link", "iframe", "object", "form"} & {tag for tag, _ in tags.found}
        style = page.split("<style>")[1].split("</style>")[0]
        digest = re.search(r"style-src 'sha256-([^']+)'", page)
        assert digest is not None
        assert digest[1] == base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    def test_says_counts_reasons_licences_and_warnings(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        rows.append(web_row(storage, 60, size=20))
        result = clean(rows[:7] + rows[29:], storage)
        page = storage.read_bytes(f"{result.uri}/card.html").decode()
        for said in ("too_small", "a side is shorter than 64", "CC BY 4.0", "small_class", "few_pictures"):
            assert said in page


class TestAttribution:
    def test_lists_every_kept_picture_with_creator_licence_and_page(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        result = clean(rows, storage)
        text = storage.read_bytes(f"{result.uri}/ATTRIBUTION.md").decode()
        assert "## CC BY 4\\.0 (30 pictures)" in text or "## CC BY 4.0 (30 pictures)" in text
        assert text.count("by A. Maker, [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/)") == 30
        assert "<https://pictures.example/page/7>" in text

    def test_pictures_of_which_nothing_is_known_are_counted(
        self, rows: list[FetchedRow], storage: Storage
    ) -> None:
        bare = [change(row, creator=None, license=None, license_url=None, page_url=None) for row in rows]
        result = clean(bare, storage)
        manifest = manifest_rows(storage, result.version)
        info = read_info(dataset_folder(storage).version(result.version))
        text = render_attribution(info, manifest)
        assert "* 30 pictures from pictures.example; neither creator nor licence is known" in text

    @pytest.mark.parametrize(
        "address",
        ["javascript:alert(1)", "http://a b", "https://x/)(", "data:text/html,x", "https://x\n/", None, ""],
    )
    def test_only_plain_web_addresses_become_links(self, address: str | None) -> None:
        assert web_address(address) is None
        assert web_address("https://a.example/b?c=d#e") == "https://a.example/b?c=d#e"
