"""Who sees and changes what on the pages, without a scheduler and its database; the real ones: tests/e2e."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import PlatformUnavailable
from pipeline.pages.schedule import Run
from pipeline.preprocess.decisions import read_decisions
from pipeline.report.build import write_report
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pages import DATASET_VERSION, WORKSPACE
from tests.fakes.pictures import encode
from tests.fakes.report import CLASSIFIER, ReportWorld
from tests.fakes.rows import dataset_folder

HOSTILE = '"><script>alert(1)</script>'
GETS = ("", "/compare?left=v_1&right=v_1", "/pictures", "/add", "/labels", "/try", "/use", "/feedback")
POSTS = ("rollback", "decisions", "try", "run", "cancel", "add", "add/archive")


class TestAccess:
    @pytest.mark.parametrize("path", ["/", f"/classifiers/{NAME}", "/static/pages.js", "/runs/m/r"])
    def test_anonymous_sees_nothing(self, pages: Pages, path: str) -> None:
        answer = pages.get(path)
        assert answer.status_code == 401
        assert "Please sign in" in answer.text

    @pytest.mark.parametrize("action", POSTS)
    def test_anonymous_changes_nothing(self, pages: Pages, action: str) -> None:
        assert pages.post(action, {}).status_code == 401

    @pytest.mark.parametrize("path", GETS)
    def test_a_viewer_sees_every_page_without_a_form_that_writes(self, pages: Pages, path: str) -> None:
        pages.sign_in("viewer")
        answer = pages.get(f"/classifiers/{NAME}{path}")
        assert answer.status_code == (404 if "compare" in path else 200)
        assert 'method="post"' not in answer.text

    @pytest.mark.parametrize("action", POSTS)
    def test_a_viewers_post_is_forbidden_token_or_not(self, pages: Pages, action: str) -> None:
        pages.sign_in("user")
        token = pages.token()
        pages.sign_in("viewer")
        assert pages.post(action, {"token": token}).status_code == 403

    def test_the_list_is_sorted_by_links_that_keep_what_is_looked_for(self, pages: Pages) -> None:
        pages.sign_in("viewer")
        text = pages.get("/?sort=-accuracy&text=Class&page=7").text
        heads = dict(re.findall(r'<th scope="col"[^>]* aria-sort="(\w+)"><a href="\?([^"]+)">', text))
        assert heads["descending"] == "text=Class&amp;sort=accuracy"
        assert re.findall(r'aria-sort="(\w+)"', text).count("none") == 4
        assert '<input type="hidden" name="sort" value="-accuracy">' in text
        assert "&amp;sort=-last_run" in text
        assert "script" not in pages.get("/?sort=<script>").text.partition("<table")[2]

    def test_a_list_shows_only_what_the_person_may_see(self, pages: Pages) -> None:
        pages.sign_in("viewer")
        text = pages.get("/").text
        assert NAME in text
        assert "classifier_01" not in text


class TestForgery:
    def test_a_form_without_our_token_is_refused(self, pages: Pages) -> None:
        pages.sign_in("admin")
        for token in ("", "x", pages.token()[:-1] + "?"):
            answer = pages.post("decisions", {"token": token, "action": "delete", "id": pages.picture()})
            assert answer.status_code == 403
        assert read_decisions(dataset_folder(pages.fleet.storage, NAME)) == []

    def test_the_token_of_somebody_else_is_refused(self, pages: Pages) -> None:
        pages.sign_in("admin")
        token = pages.token()
        pages.app.dependency_overrides[pages._get_user] = lambda: pages._make_user(
            username="eve", role="admin"
        )
        assert pages.post("rollback", {"token": token, "reason": "x"}).status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.test"},
            {"origin": "null"},
            {"origin": "http://airflow.test:81"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    def test_a_request_from_another_site_is_refused(self, pages: Pages, headers: dict[str, str]) -> None:
        pages.sign_in("admin")
        fields = {
            "token": pages.token(),
            "action": "delete",
            "id": pages.picture(),
            "version": DATASET_VERSION,
        }
        assert pages.post("decisions", fields, headers=headers).status_code == 403
        ours = {"origin": "http://airflow.test", "sec-fetch-site": "same-origin"}
        assert pages.post("decisions", fields, headers=ours).status_code == 303


class TestLostDatabase:
    @pytest.mark.parametrize("path", ["/", f"/classifiers/{NAME}"])
    def test_versions_that_only_the_bucket_knows_are_counted_with_the_remedy(
        self, pages: Pages, path: str
    ) -> None:
        for number in range(3):
            pages.fleet._write(f"models/{NAME}/{pages.fleet.version(number)}/graft/lineage.json", b"{}")
        pages.sign_in("viewer")
        text = pages.get(path).text
        assert "graft engine rebuild" in text
        assert "No version yet" not in text
        assert ("lost: 3 in the bucket" if path == "/" else "but the bucket holds 3") in text

    @pytest.mark.parametrize("path", ["/", f"/classifiers/{NAME}"])
    def test_an_engine_that_does_not_answer_has_lost_nothing(
        self, pages: Pages, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> Any:
            raise PlatformUnavailable("nobody listens")

        monkeypatch.setattr(pages.engine, "list_models", refuse)
        monkeypatch.setattr(pages.engine, "list_versions", refuse)
        pages.sign_in("viewer")
        text = pages.get(path).text
        assert "nobody listens" in text
        assert "graft engine rebuild" not in text
        assert "No version yet" not in text


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/classifiers/nobody", "/static/pages.css", "/nowhere"])
    def test_every_answer_has_a_tight_policy(self, pages: Pages, path: str) -> None:
        pages.sign_in("viewer")
        headers = pages.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"

    def test_pages_have_no_inline_script_or_style(self, pages: Pages) -> None:
        pages.sign_in("admin")
        for path in ("/", *(f"/classifiers/{NAME}{each}" for each in GETS)):
            text = pages.get(path).text
            assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", text), path


class TestHostileText:
    def test_text_from_outside_is_only_text(self, pages: Pages) -> None:
        pages.sign_in("admin")
        uri = f"{WORKSPACE}/datasets/{NAME}/{DATASET_VERSION}/manifest.jsonl"
        data = pages.fleet.storage.read_bytes(uri).decode()
        escaped = HOSTILE.replace('"', '\\"')
        hostile = data.replace('"somebody"', f'"{escaped}"').replace('"truncated"', f'"{escaped}"')
        hostile = hostile.replace(f"https://example.com/{NAME}/0", "javascript:alert(1)//")
        pages.fleet.storage.write_bytes(uri, hostile.encode())
        for query in ("", f"?text={HOSTILE}&label={HOSTILE}", f"?reason={HOSTILE}"):
            text = pages.get(f"/classifiers/{NAME}/pictures{query}").text
            assert "<script>" not in text
            assert "javascript:" not in re.findall(r'href="([^"]*)"', text)
        assert "&lt;script&gt;" in pages.get(f"/classifiers/{NAME}/pictures").text

    @pytest.mark.parametrize("name", ["..", "a..b", "a%2Fb", "%3Cscript%3E"])
    def test_a_name_that_is_none_reaches_no_object(self, pages: Pages, name: str) -> None:
        pages.sign_in("admin")
        pages.fleet.storage.counts.clear()
        answer = pages.get(f"/classifiers/{name}/pictures")
        assert answer.status_code in (404, 422)
        assert "<script>" not in answer.text
        assert pages.fleet.storage.counts["read"] == 0

    def test_a_run_that_climbs_out_of_its_folder_is_not_found(self, pages: Pages) -> None:
        pages.sign_in("admin")
        assert pages.get(f"/runs/{NAME}/..%2F..%2Fdatasets").status_code == 404


class TestPages:
    def test_the_list_names_what_serves_and_how_well(self, pages: Pages) -> None:
        pages.sign_in("viewer")
        pages.engine.ensure_model(NAME)
        pages.engine.create_version(NAME, {"name": "v_000000000002", "deploymentUri": "gs://x"})
        pages.engine.metrics = (
            "# TYPE graft_model_predictions counter\n"
            f'graft_model_predictions_total{{model="{NAME}"}} 4321.0\n'
        )
        text = pages.get("/").text
        assert "4321" in text
        assert "v_000000000002" in text
        assert "80.2 %" in text
        assert "deployed" in text

    def test_an_engine_that_does_not_answer_is_said_and_harms_no_other_part(
        self, pages: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pipeline.errors import PlatformUnavailable

        def refuse(*_: Any) -> Any:
            raise PlatformUnavailable("no answer from <it>")

        monkeypatch.setattr(pages.engine, "list_models", refuse)
        monkeypatch.setattr(pages.engine, "list_versions", refuse)
        pages.sign_in("viewer")
        for path in ("/", f"/classifiers/{NAME}"):
            answer = pages.get(path)
            assert answer.status_code == 200
            assert "no answer from &lt;it&gt;" in answer.text
            assert "deployed" in answer.text

    def test_the_first_version_is_not_said_to_serve_without_a_persons_approval(self, pages: Pages) -> None:
        pages.sign_in("viewer")
        text = pages.get(f"/classifiers/{NAME}").text
        assert "after a person has approved it if the YAML asks for that" in text
        assert "serves at once" not in text

    def test_an_empty_airflow_says_how_to_make_a_classifier(
        self, pages: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from graft.ui import scheduler

        monkeypatch.setattr(scheduler, "read_classifiers", lambda names=None: [])
        pages.sign_in("viewer")
        assert "dags/classifiers" in pages.get("/").text
        assert "Airflow has no classifier named nobody" in pages.get("/classifiers/nobody").text

    def test_deleting_and_relabelling_write_decisions(self, pages: Pages) -> None:
        pages.sign_in("user")
        id, token = pages.picture(), pages.token()
        fields = {"token": token, "id": id, "version": DATASET_VERSION, "page": "pictures"}
        fields |= {"query": "label=ant&page=1", "action": "relabel", "label": "bee"}
        answer = pages.post("decisions", fields)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/classifiers/{NAME}/pictures?label=ant&page=1#p-{id}"
        [decision] = read_decisions(dataset_folder(pages.fleet.storage, NAME))
        assert (decision.picture, decision.action, decision.label) == (id, "relabel", "bee")
        assert "Will be bee from the next run on." in pages.get(f"/classifiers/{NAME}/pictures").text
        pages.post("decisions", {**fields, "action": "undo"})
        assert read_decisions(dataset_folder(pages.fleet.storage, NAME)) == []
        assert pages.post("decisions", {**fields, "action": "burn"}).status_code == 400

    def test_rolling_back_needs_a_reason_and_is_kept_with_the_persons_name(self, pages: Pages) -> None:
        pages.sign_in("user")
        pages.engine.ensure_model(NAME)
        for number in range(3):
            body = {"name": pages.fleet.version(number), "deploymentUri": "gs://x"}
            pages.engine.create_version(NAME, body)
        pages.engine.set_default(NAME, pages.fleet.version(2))
        fields = {"token": pages.token(), "version": pages.fleet.version(1)}
        assert pages.post("rollback", fields).status_code == 409
        assert pages.post("rollback", {**fields, "reason": "it was better"}).status_code == 303
        assert pages.engine.models[NAME]["defaultVersion"]["name"].endswith(pages.fleet.version(1))
        [event] = [event for event in pages.fleet.cache.history(NAME) if event.event == "rolled_back"]
        assert (event.by, event.reason) == ("ann", "it was better")

    def test_after_a_rollback_the_form_does_not_offer_the_withdrawn_version_first(self, pages: Pages) -> None:
        pages.sign_in("user")
        pages.engine.ensure_model(NAME)
        for number in range(3):
            body = {"name": pages.fleet.version(number), "deploymentUri": "gs://x"}
            pages.engine.create_version(NAME, body)
        pages.engine.set_default(NAME, pages.fleet.version(2))

        def selected() -> list[str]:
            form = pages.get(f"/classifiers/{NAME}").text.split('id="rollback"')[1].split("</form>")[0]
            return re.findall(r'<option value="(\w*)" selected', form)

        assert selected() == [pages.fleet.version(1)]
        fields = {"token": pages.token(), "reason": "worse"}
        pages.post("rollback", {**fields, "version": pages.fleet.version(1)})
        assert selected() == [pages.fleet.version(0)]
        text = pages.get(f"/classifiers/{NAME}").text
        assert '<span class="word ">rolled back</span>' in text
        assert ">deployed<" not in text.split('id="versions"')[0]
        pages.post("rollback", {**fields, "version": pages.fleet.version(0)})
        assert selected() == [""]

    def test_hashes_and_run_ids_are_no_link_text(self, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
        from graft.ui import scheduler

        pages.sign_in("admin")
        pages.engine.ensure_model(NAME)
        for resource in pages.fleet.resources(NAME):
            body = {"name": resource["name"].rpartition("/")[2], "deploymentUri": "gs://x"}
            pages.engine.create_version(NAME, body)
        run = Run(run_id="scheduled__2026-11-26T03:00:00+00:00_AbC12", state="running")
        monkeypatch.setattr(scheduler, "read_runs", lambda name, limit: [run])
        texts = []
        for path in ("/", *(f"/classifiers/{NAME}{each}" for each in GETS if "compare" not in each)):
            texts += re.findall(r"<a [^>]*>(.*?)</a>", pages.get(path).text, re.DOTALL)
        shown = [re.sub(r'<span class="unseen">.*?</span>|<[^>]*>', "", text) for text in texts]
        assert not [text for text in shown if re.search(r"\b[vd]_\w+|__\d{4}-|graft_[0-9a-f]{8}", text)]
        assert "26 Nov 2026 03:00, by schedule" in shown
        assert '<span title="v_000000000000">v1</span>' in pages.get(f"/classifiers/{NAME}").text

    def test_a_picture_is_answered_with_bars_map_and_version(self, pages: Pages) -> None:
        pages.sign_in("user")
        pages.engine.ensure_model(NAME)
        pages.engine.create_version(NAME, {"name": "v_1", "deploymentUri": "gs://graft/x"})
        said = {"label": "bee", "score": 0.7, "novelty": 0.97, "outputs": [0.1, 0.7, 0.2]}
        said |= {"features": [1, 2], "activation": [[0.0, 1.0], [0.5, 0.0]]}
        pages.engine.answer = lambda version, instance: said
        pages.fleet.storage.write_json(
            f"{WORKSPACE}/models/{NAME}/v_1/graft/labels.json", ["ant", "bee", HOSTILE]
        )
        files = {"picture": ("x.png", encode(Image.new("RGB", (64, 48), "red"), "PNG"), "image/png")}
        answer = pages.post("try", {"token": pages.token()}, files=files)
        assert answer.status_code == 200
        assert re.findall(r'<meter[^>]* value="([\d.]+)"', answer.text) == ["0.7000", "0.2000", "0.1000"]
        assert answer.text.count("data:image/jpeg;base64,") == 2
        assert "Novelty 0.97" in answer.text
        assert "<script>alert" not in answer.text

    def test_what_is_no_picture_is_refused_with_the_reason(self, pages: Pages) -> None:
        pages.sign_in("user")
        token = pages.token()
        files = {"picture": ("x.png", b"<script>alert(1)</script>", "image/png")}
        answer = pages.post("try", {"token": token}, files=files)
        assert answer.status_code == 422
        assert "<script>alert" not in answer.text
        assert pages.post("try", {"token": token}).status_code == 400
        files = {"picture": ("x.png", b"x" * 7_100_000, "image/png")}
        assert pages.post("try", {"token": token}, files=files).status_code == 413

    def test_a_runs_report_is_served_under_a_policy_without_scripts(
        self, pages: Pages, tmp_path: Path
    ) -> None:
        page_context = ReportWorld(tmp_path / "graft")
        classifier = CLASSIFIER.model_copy(update={"name": NAME})
        write_report(page_context.workspace, **page_context.arguments(classifier=classifier))
        for uri in page_context.storage.list_uris(f"{WORKSPACE}/"):
            pages.fleet.storage.write_bytes(uri, page_context.storage.read_bytes(uri))
        pages.sign_in("viewer")
        answer = pages.get(f"/runs/{NAME}/manual__1")
        assert answer.status_code == 200
        assert "Report of run" in answer.text
        assert "script-src" not in answer.headers["content-security-policy"]
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        page = f"/classifiers/{NAME}/pictures?version=d_1&amp;text=p26"
        assert f'<a href="{page}"><img' in answer.text
        assert "data-picture" not in answer.text


def test_a_job_shows_its_state_and_what_it_wrote(pages: Pages) -> None:
    pages.sign_in("viewer")
    pages.engine.create_job({"jobId": "graft_1", "trainingInput": {"args": ["--epochs", "<b>"]}})
    pages.engine.jobs["graft_1"] |= {"state": "FAILED", "errorMessage": HOSTILE}
    answer = pages.get("/jobs/graft_1")
    assert answer.status_code == 200
    assert "FAILED" in answer.text
    assert "--epochs &lt;b&gt;" in answer.text
    assert "<script>alert" not in answer.text
    assert pages.get("/jobs/graft_2").status_code == 404


def test_a_job_leads_to_its_classifier_run_version_and_task(pages: Pages) -> None:
    from graft.ownership import DAG, TASK, digest

    pages.sign_in("viewer")
    run = pages.fleet.runs[1]
    labels = {DAG: digest(NAME), TASK: digest(NAME, run.run_id, "train", -1)}
    pages.engine.create_job({"jobId": "graft_1", "labels": labels, "trainingInput": {}})
    text = pages.get("/jobs/graft_1").text
    assert "Job of the step <i>train</i>" in text
    for address in (
        f"/classifiers/{NAME}",
        f"/runs/{NAME}/{run.run_id}",
        f"/classifiers/{NAME}#{pages.fleet.version(1)}",
        f"/dags/{NAME}/runs/{run.run_id}/tasks/train",
        "#log",
    ):
        assert f'href="{address}"' in text
    assert ">v2</span></a>" in text
    pages.engine.create_job({"jobId": "graft_2", "labels": {**labels, TASK: "gone"}, "trainingInput": {}})
    assert "in a run that is none of the newest" in pages.get("/jobs/graft_2").text


def test_a_job_of_a_classifier_that_one_may_not_see_leads_nowhere(pages: Pages) -> None:
    from graft.ownership import DAG, digest

    pages.sign_in("viewer")
    labels = {DAG: digest("classifier_01")}
    pages.engine.create_job({"jobId": "graft_1", "labels": labels, "trainingInput": {}})
    assert 'id="origin"' not in pages.get("/jobs/graft_1").text


@pytest.mark.parametrize(
    ("summary", "description", "expected"),
    [
        ("0 0 * * 0", "At 00:00, only on Sunday", "at 00:00, only on Sunday, UTC"),
        ("0 0 * * *", "At 00:00", "every day at 00:00, UTC"),
        ("@once", "Once, as soon as possible", "once, as soon as possible"),
        ("Asset", "Triggered by assets", "when its pictures change"),
        ("0 0 * * 0", None, "0 0 * * 0"),
    ],
)
def test_a_schedule_is_told_in_words(summary: str, description: str | None, expected: str) -> None:
    from graft.ui.scheduler import describe_schedule

    assert describe_schedule(summary, description) == expected


def test_nested_values_of_a_jobs_input_are_shown(pages: Pages) -> None:
    pages.sign_in("viewer")
    job_input = {"scheduling": {"maxWaitTime": "60s"}, "packageUris": ["gs://a", "gs://b"]}
    job_input["hyperparameters"] = {"params": [{"parameterName": "rate"}]}
    pages.engine.create_job({"jobId": "graft_1", "trainingInput": job_input})
    text = pages.get("/jobs/graft_1").text
    for key, value in (
        ("scheduling.maxWaitTime", "60s"),
        ("packageUris", "gs://a gs://b"),
        ("hyperparameters.params.0.parameterName", "rate"),
    ):
        assert f'<th scope="row">{key}</th><td><code>{value}</code></td>' in text


def test_a_tuning_job_shows_its_trials(pages: Pages) -> None:
    pages.sign_in("viewer")
    spec = {"goal": "MINIMIZE", "params": [{"parameterName": "rate"}]}
    pages.engine.create_job({"jobId": "graft_1", "trainingInput": {"hyperparameters": spec}})
    output = {
        "isHyperparameterTuningJob": True,
        "completedTrialCount": "1",
        "hyperparameterMetricTag": "loss",
    }
    pages.engine.jobs["graft_1"] |= {"state": "RUNNING", "trainingOutput": output}
    assert "None has started yet." in pages.get("/jobs/graft_1").text
    good = {"trialId": "1", "state": "SUCCEEDED", "hyperparameters": {"rate": "0.05"}}
    good |= {"finalMetric": {"trainingStep": "20", "objectiveValue": 0.25}, "isTrialStoppedEarly": True}
    bad = {"trialId": "2", "state": "FAILED", "hyperparameters": {"rate": "<b>"}}
    pages.engine.jobs["graft_1"] |= {"state": "SUCCEEDED", "trainingOutput": output | {"trials": [good, bad]}}
    text = pages.get("/jobs/graft_1").text
    for piece in (
        "SUCCEEDED, stopped early",
        "0.25",
        "<code>0.05</code>",
        "&lt;b&gt;",
        "1 completed.",
        "MINIMIZE",
    ):
        assert piece in text, piece


def test_every_component_may_load_the_plugin_cheaply() -> None:
    heavy = ("numpy", "PIL", "tensorflow", "pandas", "matplotlib", "googleapiclient")
    code = (
        "import sys; sys.path.insert(0, 'plugins'); from graft.ui import mount; "
        f"print([name for name in {heavy!r} if name in sys.modules], mount.FASTAPI_APPS[0]['url_prefix'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.split() == ["[]", "/graft"], result.stderr
