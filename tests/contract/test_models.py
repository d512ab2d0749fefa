from __future__ import annotations

import pytest
from googleapiclient import discovery

from pipeline.errors import UnknownBucket
from tests.fakes.clock import wait_for


@pytest.fixture
def uri(parts):
    return parts.export("gs://other/export", "variables/variables.index", "graft/labels.json")


class TestModels:
    def test_a_model_is_created_at_once(self, v1):
        model = v1("POST", "models", {"name": "m", "description": "d", "labels": {"a": "b"}})
        assert model.pop("etag")
        assert model == {
            "name": "projects/p/models/m",
            "description": "d",
            "labels": {"a": "b"},
            "regions": ["us-central1"],
        }
        assert v1("GET", "models/m")["name"] == "projects/p/models/m"

    def test_a_second_one_is_refused_with_the_text_airflow_looks_for(self, v1):
        v1("POST", "models", {"name": "m"})
        assert v1.error("POST", "models", {"name": "m"}, code=409) == {
            "code": 409,
            "message": "Field: model.name Error: A model with the same name already exists.",
            "status": "ALREADY_EXISTS",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [
                        {
                            "field": "model.name",
                            "description": "A model with the same name already exists.",
                        }
                    ],
                }
            ],
        }

    def test_the_name_of_the_article_is_refused_by_the_rule(self, v1):
        error = v1.error("POST", "models", {"name": "keras-iris"}, code=400)
        assert error["message"].startswith("Field: model.name Error: A name should start with a letter")

    def test_a_missing_model_is_404(self, v1):
        assert v1.error("GET", "models/m", code=404) == {
            "code": 404,
            "message": "Field: name Error: The specified model was not found.",
            "status": "NOT_FOUND",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [
                        {"field": "name", "description": "The specified model was not found."}
                    ],
                }
            ],
        }

    def test_lists_come_in_pages(self, v1):
        assert v1("GET", "models") == {}
        for name in "abc":
            v1("POST", "models", {"name": name})
        first = v1("GET", "models", params={"pageSize": 2})
        assert [model["name"][-1] for model in first["models"]] == ["a", "b"]
        second = v1("GET", "models", params={"pageSize": 2, "pageToken": first["nextPageToken"]})
        assert [model["name"][-1] for model in second["models"]] == ["c"]
        assert "nextPageToken" not in second

    def test_a_model_with_versions_cannot_be_deleted(self, v1, uri):
        v1("POST", "models", {"name": "m"})
        v1.deploy("m", "v1", uri)
        assert v1.error("DELETE", "models/m", code=400)["status"] == "FAILED_PRECONDITION"
        v1.wait_done(v1("DELETE", "models/m/versions/v1"))
        operation = v1.wait_done(v1("DELETE", "models/m"))
        assert operation["metadata"]["operationType"] == "DELETE_MODEL"
        v1.error("GET", "models/m", code=404)

    def test_another_project_is_404(self, v1):
        answer = v1.http.get("/v1/projects/q/models")
        assert answer.status_code == 404
        assert "this engine serves 'p'" in answer.json()["error"]["message"]


class TestVersions:
    @pytest.fixture(autouse=True)
    def _model(self, v1):
        v1("POST", "models", {"name": "m"})

    def test_creation_is_an_operation_that_ends_when_the_version_is_warm(self, v1, parts, uri):
        parts.pool.gate = lambda name: False
        body = {"name": "v1", "deploymentUri": uri, "runtimeVersion": "2.21", "description": "first"}
        operation = v1("POST", "models/m/versions", body)
        assert "done" not in operation
        assert operation["metadata"]["operationType"] == "CREATE_VERSION"
        assert operation["metadata"]["modelName"] == "projects/p/models/m"
        assert v1("GET", "models/m/versions/v1")["state"] == "CREATING"
        assert "defaultVersion" not in v1("GET", "models/m")
        parts.pool.gate = lambda name: True
        done = v1.wait_done(operation)
        version = v1("GET", "models/m/versions/v1")
        assert done["response"] == version
        assert version.pop("etag")
        assert version.pop("createTime").endswith("Z")
        assert version == {
            "name": "projects/p/models/m/versions/v1",
            "description": "first",
            "deploymentUri": uri,
            "runtimeVersion": "2.21",
            "framework": "TENSORFLOW",
            "state": "READY",
            "isDefault": True,
        }

    def test_the_artifacts_are_copied_when_it_is_created(self, v1, parts, uri):
        v1.deploy("m", "v1", uri)
        parts.storage.delete_tree(uri)
        assert parts.storage.list_uris("gs://graft/models/m/v1/") == [
            "gs://graft/models/m/v1/graft/labels.json",
            "gs://graft/models/m/v1/saved_model.pb",
            "gs://graft/models/m/v1/variables/variables.index",
        ]

    def test_the_first_version_becomes_the_default_and_later_ones_do_not(self, v1, uri):
        v1.deploy("m", "v1", uri)
        second = v1.deploy("m", "v2", uri)["response"]
        assert "isDefault" not in second
        assert v1("GET", "models/m")["defaultVersion"]["name"].endswith("/v1")
        assert [row["name"][-2:] for row in v1("GET", "models/m/versions")["versions"]] == ["v1", "v2"]

    def test_a_snake_case_body_is_read_and_answered_in_camel_case(self, v1, uri):
        body = {"name": "v1", "deployment_uri": uri, "runtime_version": "2.21"}
        version = v1.wait_done(v1("POST", "models/m/versions", body))["response"]
        assert version["deploymentUri"] == uri

    def test_a_used_name_is_409(self, v1, uri):
        v1.deploy("m", "v1", uri)
        error = v1.error("POST", "models/m/versions", {"name": "v1", "deploymentUri": uri}, code=409)
        assert error["message"] == "Field: version.name Error: A version with the same name already exists."

    def test_a_directory_without_a_saved_model_is_refused_with_the_text_users_know(self, v1):
        body = {"name": "v1", "deploymentUri": "gs://other/nothing"}
        error = v1.error("POST", "models/m/versions", body, code=400)
        assert error["status"] == "FAILED_PRECONDITION"
        assert error["message"].startswith(
            "Field: version.deployment_uri Error: Deployment directory gs://other/nothing is expected "
            "to contain exactly one of the following: 'saved_model.pb' file or 'saved_model.pbtxt' file."
        )
        assert v1("GET", "models/m/versions") == {}

    def test_a_model_that_does_not_load_fails_its_operation_and_leaves_no_files(self, v1, parts, uri):
        parts.export(uri, "broken")
        error = v1.deploy("m", "v1", uri)["error"]
        reason = "Failed to load model: broken (Error code: 0)"
        text = f'Create Version failed. Bad model detected with error: "{reason}"'
        assert error["message"] == text
        assert error["code"] == 9
        version = v1("GET", "models/m/versions/v1")
        assert (version["state"], version["errorMessage"]) == ("FAILED", text)
        assert parts.storage.list_uris("gs://graft/models/") == []
        assert "defaultVersion" not in v1("GET", "models/m")
        v1.wait_done(v1("DELETE", "models/m/versions/v1"))

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({"deploymentUri": "/tmp/m"}, "version.deployment_uri", 400),
            ({}, "version.deployment_uri", 400),
            ({"name": "v-1"}, "version.name", 400),
            ({"runtimeVersion": "3.1"}, "version.runtime_version", 400),
            ({"framework": "XGBOOST"}, "version.framework", 501),
            ({"framework": "CAFFE"}, "version.framework", 400),
            ({"predictionClass": "a.B"}, "version.prediction_class", 501),
            ({"autoScaling": {"minNodes": -1}}, "version.auto_scaling.min_nodes", 400),
            ({"autoScaling": {"minNode": 1}}, "version.auto_scaling.min_node", 400),
            ({"autoScaling": {}, "manualScaling": {}}, "version", 400),
            ({"nonsense": 1}, "version.nonsense", 400),
        ],
    )
    def test_a_bad_field_is_named(self, v1, uri, body, field, code):
        body = {"name": "v1", **({"deploymentUri": uri} if body else {}), **body}
        error = v1.error("POST", "models/m/versions", body, code=code)
        assert error["details"][0]["fieldViolations"][0]["field"] == field

    @pytest.mark.parametrize("runtime", ["1.2", "1.15", "2.11", "2.20"])
    def test_an_older_runtime_is_served_and_a_label_says_by_what(self, v1, uri, runtime):
        body = {"name": "v1", "deploymentUri": uri, "runtimeVersion": runtime, "pythonVersion": "3.7"}
        version = v1.wait_done(v1("POST", "models/m/versions", body))["response"]
        assert (version["state"], version["runtimeVersion"]) == ("READY", runtime)
        assert version["pythonVersion"] == "3.7"
        assert version["labels"]["graft-served-by"] == "2-21"

    def test_a_version_that_failed_answers_with_its_state_and_its_error(self, v1, parts, uri, restart):
        parts.export(uri, "broken")
        v1.deploy("m", "v1", uri)
        for client in (v1, restart()):
            error = client.error("POST", "models/m/versions/v1:predict", {"instances": [1]}, code=400)
            assert error["status"] == "FAILED_PRECONDITION"
            assert "Version v1 is FAILED: Create Version failed. Bad model detected" in error["message"]
            error = client.error("POST", "models/m:predict", {"instances": [1]}, code=400)
            assert "has no default version: Version v1 is FAILED: Create Version failed." in error["message"]
        client.wait_done(client("DELETE", "models/m/versions/v1"))
        error = client.error("POST", "models/m:predict", {"instances": [1]}, code=400)
        assert "has no default version; create a version first" in error["message"]
        client.error("POST", "models/m/versions/v1:predict", {"instances": [1]}, code=404)

    def test_an_unknown_bucket_is_the_clients_mistake_and_no_error_in_the_log(self, v1, monkeypatch, caplog):
        def refuse(name, cache):
            raise UnknownBucket(f"The bucket {name!r} is not mapped to a directory.")

        monkeypatch.setattr("pipeline.storage.storage.GoogleBucket", refuse)
        body = {"name": "v1", "deploymentUri": "gs://nowhere/export"}
        assert "'nowhere' is not mapped" in v1.error("POST", "models/m/versions", body, code=400)["message"]
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    def test_an_export_base_names_the_directories_that_hold_models(self, v1, parts):
        for name in ("1547848777", "1547848999", "notes"):
            parts.storage.write_bytes(f"gs://other/base/{name}/x", b"")
        for name in ("1547848777", "1547848999"):
            parts.storage.write_bytes(f"gs://other/base/{name}/saved_model.pb", b"ok")
        body = {"name": "v1", "deploymentUri": "gs://other/base"}
        error = v1.error("POST", "models/m/versions", body, code=400)
        assert error["message"].endswith("hold a model; give one: 1547848777, 1547848999.")
        body["deploymentUri"] = "gs://other/base/1547848777/saved_model.pb"
        error = v1.error("POST", "models/m/versions", body, code=400)
        assert error["message"].endswith("It is a file; give its directory: gs://other/base/1547848777")

    def test_two_models_in_one_directory_are_refused(self, v1, parts):
        for name in ("a.tflite", "b.onnx"):
            parts.storage.write_bytes(f"gs://other/two/{name}", b"")
        body = {"name": "v1", "deploymentUri": "gs://other/two"}
        assert "Found: a.tflite, b.onnx." in v1.error("POST", "models/m/versions", body, code=400)["message"]

    def test_a_version_of_a_missing_model_is_404(self, v1, uri):
        v1.error("POST", "models/none/versions", {"name": "v1", "deploymentUri": uri}, code=404)
        v1.error("GET", "models/none/versions", code=404)
        v1.error("GET", "models/m/versions/v9", code=404)
        v1.error("GET", "operations/none", code=404)

    @pytest.mark.parametrize("content", [None, b"", b"{}", b'""'])
    def test_set_default_takes_no_body_or_an_empty_one(self, v1, uri, content):
        v1.deploy("m", "v1", uri)
        v1.deploy("m", "v2", uri)
        answer = v1.http.post("/v1/projects/p/models/m/versions/v2:setDefault", content=content)
        assert answer.status_code == 200
        assert answer.json()["isDefault"] is True
        assert v1("GET", "models/m")["defaultVersion"]["name"].endswith("/v2")

    def test_only_a_ready_version_becomes_the_default(self, v1, parts, uri):
        v1.deploy("m", "v1", uri)
        parts.pool.gate = lambda name: False
        v1("POST", "models/m/versions", {"name": "v2", "deploymentUri": uri})
        assert "CREATING" in v1.error("POST", "models/m/versions/v2:setDefault", code=400)["message"]
        v1.error("DELETE", "models/m/versions/v2", code=400)
        parts.pool.gate = lambda name: True

    def test_the_default_can_be_deleted_only_when_it_is_alone(self, v1, parts, uri):
        v1.deploy("m", "v1", uri)
        v1.deploy("m", "v2", uri)
        error = v1.error("DELETE", "models/m/versions/v1", code=400)
        assert "only version" in error["message"]
        done = v1.wait_done(v1("DELETE", "models/m/versions/v2"))
        assert done["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
        v1.wait_done(v1("DELETE", "models/m/versions/v1"))
        assert v1("GET", "models/m/versions") == {}
        assert "defaultVersion" not in v1("GET", "models/m")
        assert all(worker.closed.is_set() for worker in parts.pool.loaded)
        assert parts.storage.list_uris("gs://graft/models/") == []
        v1.deploy("m", "v3", uri)
        assert v1("GET", "models/m")["defaultVersion"]["name"].endswith("/v3")


class TestPredict:
    @pytest.fixture(autouse=True)
    def _versions(self, v1, uri):
        v1("POST", "models", {"name": "m"})
        v1.deploy("m", "v1", uri)
        v1.deploy("m", "v2", uri)

    def served_by(self, v1, path):
        return v1("POST", f"{path}:predict", {"instances": ["x"]})["predictions"][0]["served_by"]

    def test_a_model_answers_with_its_default_and_a_version_with_itself(self, v1):
        assert self.served_by(v1, "models/m") == "m/v1"
        assert self.served_by(v1, "models/m/versions/v2") == "m/v2"
        v1("POST", "models/m/versions/v2:setDefault")
        assert self.served_by(v1, "models/m") == "m/v2"
        assert self.served_by(v1, "models/m/versions/v1") == "m/v1"

    def test_predictions_touch_no_database(self, v1, monkeypatch):
        def refuse():
            raise AssertionError("the database was opened")

        with monkeypatch.context() as patch:
            patch.setattr(v1.http.app.state.engine.store, "begin", refuse)
            assert self.served_by(v1, "models/m") == "m/v1"

    def test_an_instance_that_fails_is_a_200_with_the_text(self, v1):
        answer = v1("POST", "models/m:predict", {"instances": ["x", "bad"]})
        assert answer == {"error": "Prediction failed: a bad instance"}

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"instances": 1}', b'{"inputs": []}'])
    def test_a_malformed_request_is_the_envelope(self, v1, content):
        answer = v1.http.post("/v1/projects/p/models/m:predict", content=content)
        assert answer.status_code == 400
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"

    def test_what_is_missing_is_the_envelope(self, v1):
        v1("POST", "models", {"name": "empty"})
        body = {"instances": []}
        v1.error("POST", "models/none:predict", body, code=404)
        v1.error("POST", "models/m/versions/v9:predict", body, code=404)
        assert "no default version" in v1.error("POST", "models/empty:predict", body, code=400)["message"]

    def test_a_worker_that_dies_is_started_again(self, v1, parts):
        first = parts.pool.loaded[0]
        v1.http.portal.call(first.close)
        wait_for(lambda: len(parts.pool.loaded) == 3)
        assert self.served_by(v1, "models/m") == "m/v1"
        assert first.requests == []


class TestRestart:
    def test_ready_versions_come_back_and_defaults_stay(self, restart, parts, uri):
        v1 = restart()
        v1("POST", "models", {"name": "m"})
        v1.deploy("m", "v1", uri)
        v1.deploy("m", "v2", uri)
        v1("POST", "models/m/versions/v2:setDefault")
        v1 = restart()
        assert v1("POST", "models/m:predict", {"instances": ["x"]})["predictions"] == [
            {"served_by": "m/v2", "size": 1}
        ]
        assert [worker.name for worker in parts.pool.loaded[2:]] == ["m/v2"]
        assert v1("POST", "models/m/versions/v1:predict", {"instances": ["x"]})["predictions"] == [
            {"served_by": "m/v1", "size": 1}
        ]

    def test_a_creation_that_was_cut_off_is_finished(self, restart, parts, uri):
        v1 = restart()
        v1("POST", "models", {"name": "m"})
        parts.pool.gate = lambda name: False
        operation = v1("POST", "models/m/versions", {"name": "v1", "deploymentUri": uri})
        v1 = restart()
        assert "done" not in v1("GET", operation["name"].removeprefix("projects/p/"))
        parts.pool.gate = lambda name: True
        assert v1.wait_done(operation)["response"]["state"] == "READY"


def test_a_version_and_an_operation_have_only_fields_of_the_discovery_document(v1, uri):
    document = discovery.build("ml", "v1", static_discovery=True, developerKey="k")._schema
    v1("POST", "models", {"name": "m"})
    operation = v1.deploy("m", "v1", uri)
    found = {
        "GoogleCloudMlV1__Version": operation["response"],
        "GoogleCloudMlV1__Model": v1("GET", "models/m"),
        "GoogleLongrunning__Operation": operation,
        "GoogleCloudMlV1__OperationMetadata": {
            key: value for key, value in operation["metadata"].items() if key != "@type"
        },
    }
    for name, resource in found.items():
        assert set(resource) <= set(document.get(name)["properties"]), name
