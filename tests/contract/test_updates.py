from __future__ import annotations

import pytest

from tests.contract.test_jobs import JOB
from tests.fakes.engine import FakeParts

TABLE = {"bigqueryTableName": "p.logs.m", "samplingPercentage": 0.5}


@pytest.fixture
def uri(parts):
    return parts.export("gs://other/export")


@pytest.fixture
def deployed(v1, uri):
    v1("POST", "models", {"name": "m", "labels": {"a": "b"}})
    v1.deploy("m", "v1", uri)
    return v1


def patch(v1, path, body, mask, code=200):
    return v1("PATCH", path, body, code=code, params={"updateMask": mask})


class TestJobs:
    def test_labels_are_replaced_and_the_etag_is_new(self, v1):
        before = v1("POST", "jobs", {**JOB, "labels": {"a": "b"}})
        after = patch(v1, "jobs/j1", {"labels": {"owner": "me"}}, "labels")
        assert after["labels"] == {"owner": "me"}
        assert after["etag"] != before["etag"]
        assert v1("GET", "jobs/j1")["labels"] == {"owner": "me"}

    def test_the_etag_of_a_job_does_not_change_with_its_state(self, v1, parts):
        before = v1("POST", "jobs", JOB)
        parts.backend.finish("j1", 0)
        assert v1.wait_state("j1", "SUCCEEDED")["etag"] == before["etag"]

    def test_with_etag_in_the_mask_a_change_in_between_is_409(self, v1):
        etag = v1("POST", "jobs", JOB)["etag"]
        body = {"labels": {"a": "1"}, "etag": etag}
        assert patch(v1, "jobs/j1", body, "labels,etag")["labels"] == {"a": "1"}
        error = patch(v1, "jobs/j1", body, "labels,etag", code=409)["error"]
        assert error["status"] == "ABORTED"
        assert patch(v1, "jobs/j1", body, "labels")  # without it in the mask the etag is not looked at

    @pytest.mark.parametrize("mask", [None, "", "etag", "state", "trainingInput.args", "labels,state"])
    def test_other_masks_name_what_can_be_changed(self, v1, mask):
        v1("POST", "jobs", JOB)
        error = patch(v1, "jobs/j1", {"labels": {}}, mask, code=400)["error"]
        assert error["message"].startswith("Field: update_mask Error: Expected one or more of labels.")

    def test_a_missing_job_is_404(self, v1):
        patch(v1, "jobs/none", {"labels": {}}, "labels", code=404)


class TestModels:
    def test_a_description_is_changed_by_an_operation_that_has_ended(self, deployed):
        operation = patch(deployed, "models/m", {"description": "new"}, "description")
        assert operation["done"] is True
        assert operation["metadata"]["operationType"] == "UPDATE_MODEL"
        assert operation["metadata"]["labels"] == {"a": "b"}
        assert operation["response"] == deployed("GET", "models/m")
        assert operation["response"]["description"] == "new"
        assert deployed("GET", operation["name"].removeprefix("projects/p/")) == operation

    @pytest.mark.parametrize("mask", ["defaultVersion.name", "default_version.name"])
    @pytest.mark.parametrize("name", ["v2", "projects/p/models/m/versions/v2"])
    def test_the_default_version_is_swapped_in_either_spelling(self, deployed, uri, mask, name):
        deployed.deploy("m", "v2", uri)
        key = mask.split(".")[0]
        patch(deployed, "models/m", {key: {"name": name}}, mask)
        assert (
            deployed("POST", "models/m:predict", {"instances": ["x"]})["predictions"][0]["served_by"]
            == "m/v2"
        )

    def test_what_does_not_become_the_default_changes_nothing(self, deployed):
        body = {"description": "new", "defaultVersion": {"name": "v9"}}
        patch(deployed, "models/m", body, "description,defaultVersion.name", code=404)
        assert "description" not in deployed("GET", "models/m")

    def test_a_stale_etag_is_409_and_a_cleared_field_is_gone(self, deployed):
        model = deployed("GET", "models/m")
        patch(deployed, "models/m", {**model, "description": "x"}, "description")
        assert patch(deployed, "models/m", {**model, "description": "y"}, "description", code=409)
        patch(deployed, "models/m", {}, "description,labels")
        assert {"description", "labels"}.isdisjoint(deployed("GET", "models/m"))


class TestVersions:
    path = "models/m/versions/v1"

    @pytest.mark.parametrize(
        ("mask", "body", "changed"),
        [
            ("description", {"description": "d"}, {"description": "d"}),
            ("labels", {"labels": {"a": "b"}}, {"labels": {"a": "b"}}),
            ("autoScaling.minNodes", {"autoScaling": {"minNodes": 2}}, {"autoScaling": {"minNodes": 2}}),
            ("auto_scaling.min_nodes", {"auto_scaling": {"min_nodes": 0}}, {"autoScaling": {"minNodes": 0}}),
            ("manualScaling.nodes", {"manualScaling": {"nodes": "3"}}, {"manualScaling": {"nodes": 3}}),
            ("requestLoggingConfig", {"requestLoggingConfig": TABLE}, {"requestLoggingConfig": TABLE}),
        ],
    )
    def test_what_v1_lets_be_changed_is_changed(self, deployed, mask, body, changed):
        before = deployed("GET", self.path)
        operation = patch(deployed, self.path, body, mask)
        assert operation["metadata"]["operationType"] == "UPDATE_VERSION"
        assert operation["metadata"]["version"] == {"name": "projects/p/models/m/versions/v1"}
        after = operation["response"]
        assert after == deployed("GET", self.path)
        assert after.pop("etag") != before.pop("etag")
        assert after == {**before, **changed}

    def test_a_stale_etag_in_the_body_is_409_even_if_the_mask_does_not_name_it(self, deployed):
        version = deployed("GET", self.path)
        patch(deployed, self.path, {**version, "description": "x"}, "description")
        error = patch(deployed, self.path, {**version, "description": "y"}, "description", code=409)["error"]
        assert error["status"] == "ABORTED"
        assert deployed("GET", self.path)["description"] == "x"

    def test_an_etag_that_the_mask_names_must_be_in_the_body(self, deployed):
        patch(deployed, self.path, {"description": "x"}, "description,etag", code=409)

    def test_only_what_the_mask_names_is_taken(self, deployed):
        patch(deployed, self.path, {"description": "d", "labels": {"a": "b"}, "state": "FAILED"}, "labels")
        version = deployed("GET", self.path)
        assert (version.get("description"), version["state"]) == (None, "READY")

    @pytest.mark.parametrize(
        ("mask", "body", "field"),
        [
            ("deploymentUri", {"deploymentUri": "gs://x/y"}, "update_mask"),
            ("description", {"description": 1}, "version.description"),
            ("autoScaling.minNodes", {"autoScaling": {"minNodes": -1}}, "version.auto_scaling.min_nodes"),
            (
                "requestLoggingConfig",
                {"requestLoggingConfig": {}},
                "version.request_logging_config.bigquery_table_name",
            ),
            ("labels", [], "version"),
        ],
    )
    def test_a_bad_change_is_named(self, deployed, mask, body, field):
        error = patch(deployed, self.path, body, mask, code=400)["error"]
        assert error["details"][0]["fieldViolations"][0]["field"] == field

    def test_both_kinds_of_scaling_at_once_are_refused(self, deployed):
        patch(deployed, self.path, {"autoScaling": {"minNodes": 1}}, "autoScaling.minNodes")
        error = patch(deployed, self.path, {"manualScaling": {"nodes": 1}}, "manualScaling.nodes", code=400)
        assert "exclude each other" in error["error"]["message"]

    def test_a_version_that_is_being_created_is_not_changed(self, v1, parts, uri):
        v1("POST", "models", {"name": "m"})
        parts.pool.gate = lambda name: False
        v1("POST", "models/m/versions", {"name": "v1", "deploymentUri": uri})
        error = patch(v1, self.path, {"description": "d"}, "description", code=400)["error"]
        assert error["status"] == "FAILED_PRECONDITION"
        parts.pool.gate = lambda name: True


class TestQuotas:
    def start(self, restart, parts, **settings):
        parts.settings = FakeParts(parts.home, **settings).settings
        return restart()

    def test_too_many_jobs_in_a_minute_are_429_and_say_how_long_to_wait(self, restart, parts):
        v1 = self.start(restart, parts, job_creations_per_minute=2)
        for number in range(2):
            v1("POST", "jobs", {**JOB, "jobId": f"j{number}"})
        answer = v1.http.post("/v1/projects/p/jobs", json={**JOB, "jobId": "j2"})
        assert answer.status_code == 429
        assert answer.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        assert v1("GET", "jobs/j1")["jobId"] == "j1"

    def test_predictions_have_their_own_quota(self, restart, parts, uri):
        v1 = self.start(restart, parts, predictions_per_minute=1)
        v1("POST", "models", {"name": "m"})
        v1.deploy("m", "v1", uri)
        v1("POST", "models/m:predict", {"instances": ["x"]})
        v1.error("POST", "models/m:predict", {"instances": ["x"]}, code=429)
        v1("GET", "models/m")

    def test_models_and_versions_are_counted(self, restart, parts, uri):
        v1 = self.start(restart, parts, max_models=1, max_versions=2)
        v1("POST", "models", {"name": "m"})
        assert "MAX_MODELS" in v1.error("POST", "models", {"name": "n"}, code=429)["message"]
        for name in ("v1", "v2"):
            v1.deploy("m", name, uri)
        body = {"name": "v3", "deploymentUri": uri}
        assert "MAX_VERSIONS" in v1.error("POST", "models/m/versions", body, code=429)["message"]

    def test_versions_that_change_at_the_same_time_are_counted(self, restart, parts, uri):
        v1 = self.start(restart, parts, max_version_changes=1)
        v1("POST", "models", {"name": "m"})
        parts.pool.gate = lambda name: False
        first = v1("POST", "models/m/versions", {"name": "v1", "deploymentUri": uri})
        v1.error("POST", "models/m/versions", {"name": "v2", "deploymentUri": uri}, code=429)
        parts.pool.gate = lambda name: True
        v1.wait_done(first)
        v1.deploy("m", "v2", uri)

    def test_a_directory_of_too_many_files_is_refused(self, restart, parts):
        v1 = self.start(restart, parts, max_version_files=2)
        v1("POST", "models", {"name": "m"})
        uri = parts.export("gs://other/big", "a", "b")
        error = v1.error("POST", "models/m/versions", {"name": "v1", "deploymentUri": uri}, code=400)
        assert "has 3 files; 2 are allowed" in error["message"]
