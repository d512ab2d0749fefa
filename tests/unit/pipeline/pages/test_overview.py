from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.evaluated_run import DatasetName, EvaluatedRun
from pipeline.artifacts.gate import Override
from pipeline.artifacts.history import EventType, HistoryEvent, record_event
from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.run_summary import GateSummary, Outcome, write_summary
from pipeline.pages.classifier_list import Order, choose_classifiers
from pipeline.pages.overview import describe_classifiers, find_alarms
from pipeline.pages.run_status import describe_ending, read_run_status
from pipeline.pages.schedule import Run, Scheduled
from pipeline.pages.sparkline import HEIGHT, WIDTH, draw_sparkline
from pipeline.pages.versions import add_intervals, list_runs, list_versions
from tests.fakes.evaluation import evaluation, metrics
from tests.fakes.model_record import decision, lineage, run_summary
from tests.fakes.pages import DATASET_VERSION, Fleet

LATER, HOUR = datetime(2026, 6, 1, tzinfo=UTC), timedelta(hours=1)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, classifiers=3, versions=4, pictures=30)


class TestClassifiers:
    def test_each_has_its_version_accuracy_verdict_and_data(self, fleet: Fleet) -> None:
        rows = describe_classifiers(fleet.cache, fleet.scheduled[::-1], fleet.serving, {"classifier_01": 7})
        assert [row.scheduled.name for row in rows] == fleet.names[::-1]
        first = rows[-1]
        assert first.serving == fleet.version(3)
        assert first.accuracy == pytest.approx(0.803)
        assert first.verdict is not None
        assert (first.verdict.word, first.verdict.tone) == ("deployed", "good")
        assert first.pictures == 27
        assert first.data is not None
        assert first.data.version == DATASET_VERSION
        assert [row.traffic for row in rows] == [0, 7, 0]

    def test_the_accuracy_has_the_interval_that_the_version_carries_and_it_is_read_once(
        self, fleet: Fleet
    ) -> None:
        name = fleet.names[0]
        carried = evaluation(metrics(0.8))
        carried.write(fleet.storage, fleet.workspace.model(name, fleet.version(3)).evaluation)
        for reads in (True, False):
            fleet.storage.counts.clear()
            rows = describe_classifiers(fleet.cache, fleet.scheduled[:2], fleet.serving)
            assert [row.interval for row in rows] == [carried.candidate.accuracy_ci95, None]
            assert (fleet.storage.counts["read"] > 2) == reads  # `latest` of each may change

    def test_one_that_never_ran_is_empty_and_no_error(self, fleet: Fleet) -> None:
        [row] = describe_classifiers(fleet.cache, [Scheduled(name="new")], {})
        assert row.serving is row.accuracy is row.trend is row.verdict is row.data is row.traffic is None

    def test_a_rolled_back_version_keeps_the_accuracy_of_its_deployment(self, fleet: Fleet) -> None:
        name, version = fleet.names[0], fleet.version(1)
        event = HistoryEvent(
            event=EventType.ROLLED_BACK, version=version, run_id="r", by="ann", reason="worse"
        )
        record_event(fleet.workspace, name, event)
        [row] = describe_classifiers(fleet.cache, fleet.scheduled[:1], {name: version})
        assert row.accuracy == pytest.approx(0.801)

    def test_a_rollback_is_the_verdict_that_is_shown_with_its_reason(self, fleet: Fleet) -> None:
        [row, *_] = describe_classifiers(fleet.cache, fleet.scheduled, {})
        assert row.verdict is not None
        assert row.verdict.word == "deployed"
        event = HistoryEvent(
            event=EventType.ROLLED_BACK, version=fleet.version(0), run_id="r", by="ann", reason="worse"
        )
        record_event(fleet.workspace, fleet.names[0], event)
        [row, *_] = describe_classifiers(fleet.cache, fleet.scheduled, {})
        assert row.verdict is not None
        assert (row.verdict.word, row.verdict.reason) == ("rolled back", "worse")

    def test_a_run_whose_version_was_rolled_back_is_not_shown_as_deployed_until_it_serves_again(
        self, fleet: Fleet
    ) -> None:
        name, last = fleet.names[0], fleet.runs[0]

        def words() -> list[str]:
            history = fleet.cache.history(name)
            return [status.word for _, status in list_runs(fleet.cache, name, fleet.runs, history)]

        assert words() == ["deployed"] * 4
        back = HistoryEvent(
            event=EventType.ROLLED_BACK, version=fleet.version(1), run_id="r", by="ann", reason="worse"
        )
        record_event(fleet.workspace, name, back)
        statuses = list_runs(fleet.cache, name, fleet.runs, fleet.cache.history(name))
        assert [status.word for _, status in statuses] == ["rolled back", *["deployed"] * 3]
        assert (statuses[0][1].reason, statuses[0][1].tone) == ("worse", "")
        assert describe_ending(fleet.cache, name, last) == "It made v4, which was rolled back: worse."
        record_event(fleet.workspace, name, replace(back, version=fleet.version(3), run_id="r2"))
        assert words() == ["deployed", "deployed", "rolled back", "deployed"]
        assert describe_ending(fleet.cache, name, last) == "It made v4, which serves now."

    def test_a_version_is_called_by_the_order_in_which_versions_served(self, fleet: Fleet) -> None:
        [row, *_] = describe_classifiers(fleet.cache, fleet.scheduled, fleet.serving)
        assert row.number == 4
        history, numbers = fleet.cache.numbered_history(fleet.names[0], 1)
        assert len(history) == 1
        assert numbers == {fleet.version(number): number + 1 for number in range(4)}
        assert describe_ending(fleet.cache, fleet.names[0], fleet.runs[2]) == "It made v2; v4 serves now."

    def test_a_version_without_history_is_known_from_its_lineage(self, fleet: Fleet) -> None:
        gate = replace(decision(0.5), override=Override(by="ann", reason="must"))
        name = fleet.names[0]
        made_of = lineage(run_id="manual__9", dataset_version="d_9", gate=gate)
        made_of.write(fleet.storage, fleet.workspace.model(name, "v_9").lineage)
        [row] = list_versions(fleet.cache, name, [{"name": "models/m/versions/v_9", "state": "READY"}], [])
        assert (row.accuracy, row.run_id, row.decided_by) == (0.5, "manual__9", "ann")
        assert row.can_serve


class TestVerdict:
    @pytest.mark.parametrize(
        ("said", "word", "reason"),
        [
            ({"state": Outcome.REFUSED}, "refused", "accuracy is 0.5"),
            (
                {
                    "state": Outcome.REJECTED,
                    "gate": GateSummary(
                        accepted=True,
                        reasons=(),
                        approval=Approval(approved=False, by="ann", reason="blurred", at=""),
                    ),
                },
                "rejected",
                "blurred",
            ),
            (
                {"state": Outcome.SUPERSEDED},
                "superseded",
                "another version became the default during the run",
            ),
            (
                {"state": Outcome.SKIPPED, "reason": "nothing new: v_1 serves"},
                "skipped",
                "nothing new: v_1 serves",
            ),
        ],
    )
    def test_a_summary_says_how_the_run_ended(
        self, fleet: Fleet, said: dict[str, Any], word: str, reason: str
    ) -> None:
        gate = GateSummary(accepted=False, reasons=("accuracy is 0.5",))
        summary = run_summary(**{"run_id": "r+1", "version": None, "gate": gate, **said})
        write_summary(fleet.workspace, summary)
        verdict = read_run_status(fleet.cache, "m", Run(run_id="r+1", state="success"))
        assert (verdict.word, verdict.reason) == (word, reason)
        assert verdict.has_report == (word != "skipped")

    def test_a_run_that_waits_for_approval_has_a_report_already(self, fleet: Fleet) -> None:
        evaluated = EvaluatedRun(
            run_id="r",
            dataset=DatasetName(dataset="m", version="d_1"),
            evaluation_job="j",
            accuracy=0.9,
            accepted=True,
            reasons=(),
            report="",
            label_issues=None,
        )
        evaluated.write(fleet.storage, fleet.workspace.run("m", "r").evaluated)
        verdict = read_run_status(fleet.cache, "m", Run(run_id="r", state="running"))
        assert (verdict.word, verdict.accuracy, verdict.has_report) == ("waiting", 0.9, True)
        assert read_run_status(fleet.cache, "m", Run(run_id="r", state="failed")).word == "failed"

    def test_a_run_without_objects_is_what_the_scheduler_says(self, fleet: Fleet) -> None:
        assert read_run_status(fleet.cache, "m", Run(run_id="r", state="queued")).word == "queued"


class TestSparkline:
    def test_points_stay_inside_and_rise_with_the_values(self) -> None:
        line = draw_sparkline((0.5, 0.75, 1.0))
        assert line is not None
        points = [tuple(map(float, point.split(","))) for point in line.points.split()]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
        assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
        assert line.text == "accuracy of the last 3 deployed: from 50.0 % to 100.0 %"

    def test_noise_stays_flat(self) -> None:
        line = draw_sparkline((0.9, 0.9001))
        assert line is not None
        first, last = (float(point.split(",")[1]) for point in line.points.split())
        assert abs(first - last) < 0.5

    def test_fewer_than_two_values_are_no_trend(self) -> None:
        assert draw_sparkline(()) is None
        assert draw_sparkline((0.9,)) is None


class TestListing:
    def test_fifty_are_on_a_page_by_name_and_the_last_page_stands_for_those_beyond(
        self, fleet: Fleet
    ) -> None:
        many = [Scheduled(name=f"c_{number:03d}") for number in reversed(range(120))]
        first, last = (choose_classifiers(fleet.cache, many, {}, page=page) for page in (1, 9))
        assert [each.name for each in first.shown] == [f"c_{number:03d}" for number in range(50)]
        assert (first.total, first.page, first.pages) == (120, 1, 3)
        assert [each.name for each in last.shown] == [f"c_{number:03d}" for number in range(100, 120)]
        assert last.page == 3

    def test_text_is_looked_for_in_names_and_descriptions_of_all_pages(self, fleet: Fleet) -> None:
        many = [Scheduled(name=f"c_{number:03d}", description="Birds.") for number in range(120)]
        many.append(Scheduled(name="z", description="Fish of the sea."))
        found = {
            text: [each.name for each in choose_classifiers(fleet.cache, many, {}, text=text).shown]
            for text in (" FISH", "c_11", "no such")
        }
        assert found == {" FISH": ["z"], "c_11": [f"c_{number}" for number in range(110, 120)], "no such": []}

    def test_it_is_sorted_over_all_pages_and_those_without_a_value_are_last(self, fleet: Fleet) -> None:
        def run(hours: int, state: str = "failed") -> Run:
            return Run(run_id=f"r{hours}", state=state, started=LATER, ended=LATER + hours * HOUR)

        many = [
            *(Scheduled(name=f"c_{n:03d}", next_run=LATER + n * HOUR, is_paused=n == 5) for n in range(60)),
            Scheduled(name="x", last_run=run(2, "running")),
            Scheduled(name="y", last_run=run(3)),
            Scheduled(name="z", last_run=run(1)),
        ]

        def names(sort: str, page: int = 1) -> list[str]:
            order = Order.parse(sort)
            shown = choose_classifiers(fleet.cache, many, {}, text="", page=page, order=order).shown
            return [each.name for each in shown]

        assert names("-name")[:3] == ["z", "y", "x"]
        assert names("state")[:4] == ["y", "z", "x", "c_000"]
        assert names("-last_run")[:4] == ["y", "x", "z", "c_000"]
        assert names("last_run")[:4] == ["z", "x", "y", "c_000"]
        assert names("-next_run")[0] == "c_059"
        assert names("-next_run", 2)[-5:] == ["c_000", "c_005", "x", "y", "z"]
        assert names("nonsense") == names("") == names("name")

    def test_it_is_sorted_by_the_accuracy_that_the_rows_show(self, fleet: Fleet) -> None:
        first, second, third = fleet.names
        made_of = lineage(run_id="manual__9", dataset_version="d_9", gate=decision(0.5))
        made_of.write(fleet.storage, fleet.workspace.model(first, "v_9").lineage)
        serving = {first: "v_9", second: fleet.version(1)}
        for sort, expected in (("accuracy", [first, second, third]), ("-accuracy", [second, first, third])):
            sheet = choose_classifiers(fleet.cache, fleet.scheduled, serving, order=Order.parse(sort))
            rows = describe_classifiers(fleet.cache, sheet.shown, serving)
            assert [row.scheduled.name for row in rows] == expected
            assert sorted(row.accuracy or 0 for row in rows) == pytest.approx([0, 0.5, 0.801])

    def test_the_order_follows_the_shown_accuracy_also_where_a_lineage_says_another(
        self, fleet: Fleet
    ) -> None:
        first, second, _ = fleet.names
        other = lineage(run_id="manual__1", dataset_version="d_1", gate=decision(0.99))
        other.write(fleet.storage, fleet.workspace.model(first, fleet.version(0)).lineage)
        serving = {first: fleet.version(0), second: fleet.version(1)}
        order = Order.parse("-accuracy")
        sheet = choose_classifiers(fleet.cache, fleet.scheduled, serving, order=order)
        rows = describe_classifiers(fleet.cache, sheet.shown, serving)
        assert [(row.scheduled.name, row.accuracy) for row in rows[:2]] == [
            (second, pytest.approx(0.801)),
            (first, pytest.approx(0.8)),
        ]

    def test_a_run_whose_version_was_rolled_back_comes_before_those_that_serve(self, fleet: Fleet) -> None:
        event = HistoryEvent(
            event=EventType.ROLLED_BACK, version=fleet.version(0), run_id="r", by="ann", reason="worse"
        )
        record_event(fleet.workspace, fleet.names[1], event)
        order = Order.parse("state")
        sheet = choose_classifiers(fleet.cache, fleet.scheduled, fleet.serving, order=order)
        assert [each.name for each in sheet.shown] == [fleet.names[1], fleet.names[0], fleet.names[2]]

    def test_a_heading_leads_to_its_order_and_then_to_the_other_one(self) -> None:
        order = Order.parse("-last_run")
        assert (order.aria("last_run"), order.aria("name")) == ("descending", "none")
        assert (order.after("last_run"), order.after("name"), str(order)) == ("last_run", "name", "-last_run")
        assert (Order().aria("name"), Order().after("name"), Order().after("last_run")) == (
            "ascending",
            "-name",
            "-last_run",
        )

    def test_what_failed_or_was_refused_is_found_wherever_it_is_the_newest_first(self, fleet: Fleet) -> None:
        refused, failed, fine = fleet.names
        runs = {refused: Run(run_id="r", state="success", started=LATER, ended=LATER)}
        runs |= {failed: Run(run_id="f", state="failed", started=LATER + HOUR, ended=LATER + HOUR)}
        runs |= {fine: fleet.runs[0]}
        gate = GateSummary(accepted=False, reasons=("accuracy is 0.5",), override=None)
        write_summary(
            fleet.workspace, run_summary(classifier=refused, run_id="r", state=Outcome.REFUSED, gate=gate)
        )
        alarms = find_alarms(fleet.cache, [Scheduled(name=name, last_run=run) for name, run in runs.items()])
        assert [(each.name, status.word) for each, _, status in alarms] == [
            (failed, "failed"),
            (refused, "refused"),
        ]
        fleet.storage.counts.clear()
        find_alarms(fleet.cache, [Scheduled(name=fine, last_run=runs[fine])] * 100)
        assert fleet.storage.counts == {}  # how a run ended is read once


class TestCost:
    """How much is read: it grows with the classifiers on the page, not with their versions or pictures."""

    def test_all_classifiers_take_five_reads_and_a_listing_each_and_then_one(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, classifiers=5, versions=40, pictures=100)
        describe_classifiers(fleet.cache, fleet.scheduled, fleet.serving)
        assert fleet.storage.counts["list"] == 5
        assert fleet.storage.counts["read"] <= 5 * (20 + 4)  # 20 events, latest, dataset, summary, interval
        fleet.storage.counts.clear()
        describe_classifiers(fleet.cache, fleet.scheduled, fleet.serving)
        assert fleet.storage.counts == {"list": 5, "read": 5}  # latest

    def test_versions_are_known_from_the_history_alone(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, classifiers=1, versions=40, pictures=10)
        [name] = fleet.names
        for cache in (40, 0):
            fleet.storage.counts.clear()
            rows = list_versions(fleet.cache, name, fleet.resources(name), fleet.cache.history(name))
            assert len(rows) == 40
            assert rows[0].is_default
            assert fleet.storage.counts["read"] == cache

    def test_intervals_of_the_newest_are_read_once_also_where_there_are_none(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, classifiers=1, versions=50, pictures=10)
        [name] = fleet.names
        rows = list_versions(fleet.cache, name, fleet.resources(name), fleet.cache.history(name))
        for reads in (40, 0):
            fleet.storage.counts.clear()
            assert len(add_intervals(fleet.cache, name, rows)) == 50
            assert fleet.storage.counts["read"] == reads
