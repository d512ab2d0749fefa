from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from pipeline.artifacts.decision_event import Decided
from pipeline.artifacts.takedowns import Takedown, write_takedowns
from pipeline.errors import ConfigError, ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache, Cache
from pipeline.pages.decisions import decide
from pipeline.pages.labels import find_suspects
from pipeline.pages.pictures import (
    PAGE_SIZE,
    Choice,
    choose_pictures,
    explain_reasons,
    make_thumbnail,
    pending_decisions,
    read_pictures,
)
from pipeline.pages.schedule import Run
from pipeline.preprocess.decisions import read_decisions
from pipeline.report.build import write_report
from tests.fakes.pages import DATASET_VERSION, WORKSPACE, Fleet
from tests.fakes.report import ReportWorld
from tests.fakes.rows import dataset_folder

RUN = Run(run_id="manual__1", state="success")
DELETE, BEE = Decided(action="delete"), Decided(action="relabel", label="bee")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, classifiers=1, versions=1, pictures=200)


class TestBrowsing:
    def test_filters_narrow_and_pages_follow(self, fleet: Fleet) -> None:
        found = read_pictures(fleet.cache, fleet.names[0], DATASET_VERSION)
        everything = choose_pictures(found, Choice())
        assert (everything.total, len(everything.pictures), everything.pages) == (200, PAGE_SIZE, 4)
        bees = choose_pictures(found, Choice(label="bee", split="train"))
        assert {(picture.label, picture.split) for picture in bees.pictures} == {("bee", "train")}
        out = choose_pictures(found, Choice(split="out", reason="truncated"))
        assert out.total == 20
        [one] = choose_pictures(found, Choice(text="9.JPG")).pictures[:1]
        assert one.name == "9.jpg"

    def test_a_page_beyond_the_last_is_the_last(self, fleet: Fleet) -> None:
        found = read_pictures(fleet.cache, fleet.names[0], DATASET_VERSION)
        sheet = choose_pictures(found, Choice(page=99))
        assert (sheet.page, len(sheet.pictures)) == (4, 20)
        assert choose_pictures(found, Choice(label="nobody", page=-3)).page == 1

    def test_reasons_are_counted_and_explained(self, fleet: Fleet) -> None:
        found = read_pictures(fleet.cache, fleet.names[0], DATASET_VERSION)
        assert explain_reasons(found.reasons) == [("truncated", 20, "the file ends before the picture does")]

    def test_the_manifest_is_read_once(self, fleet: Fleet) -> None:
        for cache in (3, 1):  # the manifest, the description with its digest, and each time the takedowns
            fleet.storage.counts.clear()
            read_pictures(fleet.cache, fleet.names[0], DATASET_VERSION)
            assert fleet.storage.counts["read"] == cache

    def test_a_picture_that_was_taken_down_is_gone_at_once(self, fleet: Fleet) -> None:
        name = fleet.names[0]
        first = read_pictures(fleet.cache, name, DATASET_VERSION).rows[0]
        takedown = Takedown(id=first.id, blobs=[first.blob], urls=[], at="now")
        write_takedowns(dataset_folder(fleet.storage, name), [takedown])
        found = read_pictures(fleet.cache, name, DATASET_VERSION)
        assert first.id not in found.by_id
        with pytest.raises(ObjectNotFound, match="has no picture"):
            make_thumbnail(fleet.cache, found, first.id)


def test_a_thumbnail_passes_no_byte_of_the_file_on(fleet: Fleet) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x9286] = "SECRET PLACE"
    Image.new("RGB", (600, 400), "red").save(buffer, "JPEG", exif=exif, comment=b"SECRET PLACE")
    data = buffer.getvalue() + b"SECRET PLACE"
    found = read_pictures(fleet.cache, fleet.names[0], DATASET_VERSION)
    fleet.storage.write_bytes(f"{WORKSPACE}/blobs/{found.rows[0].blob}", data)
    small = make_thumbnail(fleet.cache, found, found.rows[0].id)
    assert b"SECRET" in data
    assert b"SECRET" not in small
    assert Image.open(io.BytesIO(small)).size == (144, 96)


def test_a_cache_keeps_what_was_used_last() -> None:
    cache, made = Cache(2), []

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key)

    for key in ("a", "b", "a", "c", "a", "b"):
        assert get(key) == key
    assert made == ["a", "b", "c", "b"]


class TestDecisions:
    @pytest.fixture
    def picture(self, fleet: Fleet) -> str:
        return read_pictures(fleet.cache, fleet.names[0], DATASET_VERSION).rows[0].id

    def test_the_last_decision_stands_and_other_lines_stay(self, fleet: Fleet, picture: str) -> None:
        name = fleet.names[0]
        theirs = b"picture,action,label\nhttps://example.com/x.jpg,delete,\n"
        fleet.storage.write_bytes(dataset_folder(fleet.storage, name).decisions, theirs)
        decide(fleet.cache, name, DATASET_VERSION, ids=[picture], decided=DELETE, by="ann")
        decide(fleet.cache, name, DATASET_VERSION, ids=[picture], decided=BEE, by="ann")
        lines = [
            (each.picture, each.action, each.label)
            for each in read_decisions(dataset_folder(fleet.storage, name))
        ]
        assert lines == [("https://example.com/x.jpg", "delete", ""), (picture, "relabel", "bee")]
        assert pending_decisions(fleet.cache, name)[picture].label == "bee"
        decide(fleet.cache, name, DATASET_VERSION, ids=[picture], decided=None, by="ann")
        assert fleet.storage.read_bytes(dataset_folder(fleet.storage, name).decisions) == theirs

    def test_a_label_that_is_no_class_is_refused(self, fleet: Fleet, picture: str) -> None:
        with pytest.raises(ConfigError, match="'=cmd' is no class of classifier_00; the classes are"):
            decide(
                fleet.cache,
                fleet.names[0],
                DATASET_VERSION,
                ids=[picture],
                decided=Decided(action="relabel", label="=cmd"),
                by="ann",
            )

    @pytest.mark.parametrize(("version", "id"), [(DATASET_VERSION, "0" * 64), ("d_none", "0" * 64)])
    def test_a_picture_that_is_not_there_is_refused(self, fleet: Fleet, version: str, id: str) -> None:
        with pytest.raises((ConfigError, ObjectNotFound), match="has no picture"):
            decide(fleet.cache, fleet.names[0], version, ids=[id], decided=DELETE, by="ann")

    def test_a_broken_file_is_left_as_it_is_and_its_line_named(self, fleet: Fleet, picture: str) -> None:
        uri = dataset_folder(fleet.storage, fleet.names[0]).decisions
        fleet.storage.write_bytes(uri, b"picture,action,label\nabcdefgh,burn,\n")
        with pytest.raises(ConfigError, match="line 2"):
            decide(fleet.cache, fleet.names[0], DATASET_VERSION, ids=[picture], decided=DELETE, by="ann")
        assert fleet.storage.read_bytes(uri).endswith(b"burn,\n")


class TestSuspects:
    def test_the_newest_evaluated_run_says_which_labels_are_in_doubt(self, tmp_path: Path) -> None:
        page_context = ReportWorld(tmp_path)
        write_report(page_context.workspace, **page_context.arguments())
        cache = ArtifactCache(page_context.workspace)
        runs = [Run(run_id="manual__2", state="running"), RUN]
        suspects = find_suspects(cache, "toys", runs)
        assert suspects is not None
        assert (suspects.run_id, suspects.version, suspects.examined) == ("manual__1", "d_1", 24)
        [suspect] = suspects.shown
        assert (suspect.picture.id, suspect.picture.label, suspect.predicted) == ("p04", "ant", "bee")

    def test_a_label_that_was_confirmed_does_not_come_back_in_this_run_or_a_later_one(
        self, tmp_path: Path
    ) -> None:
        world = ReportWorld(tmp_path, prefix="picture")
        write_report(world.workspace, **world.arguments())
        cache = ArtifactCache(world.workspace)
        decide(cache, "toys", "d_1", ids=["picture04"], decided=Decided(action="confirm"), by="ann")
        now = find_suspects(cache, "toys", [RUN])
        assert now is not None
        assert (now.count, now.decided, now.shown) == (1, 1, [])
        write_report(world.workspace, **world.arguments())
        later = find_suspects(ArtifactCache(world.workspace), "toys", [RUN])
        assert later is not None
        assert (later.count, later.decided, later.shown) == (0, 0, [])

    def test_without_an_evaluated_run_there_is_nothing_to_show(self, fleet: Fleet) -> None:
        assert find_suspects(fleet.cache, fleet.names[0], [RUN]) is None
