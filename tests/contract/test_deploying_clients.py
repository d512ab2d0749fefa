"""Clients of Cloud ML Engine deploy: their old code against an engine behind real HTTP.

In `make soak` the engine is a process of its own that loads a real model each time.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from tests.contract.discovery import CheckedHttp
from tests.integration import old_clients
from tests.integration.engine_process import EngineProcess
from tests.integration.test_client_replays import BUILD

IS_SOAK = bool(os.environ.get("GRAFT_SOAK"))
EXPORT = "gs://graft/exports/model"


class Server:
    """Where the clients go."""

    def __init__(self, projects, parent, storage) -> None:
        self.projects = projects
        self.parent = parent
        self.storage = storage

    def client(self, kind):
        return kind(self.projects, self.parent)


@pytest.fixture(scope="module")
def server(tmp_path_factory, request):
    if not IS_SOAK:
        site = request.getfixturevalue("site")
        site.parts.export(EXPORT)
        yield Server(site.projects, "projects/p", site.parts.storage)
        return
    with EngineProcess(tmp_path_factory.mktemp("home")) as engine:
        export = engine.home / "buckets" / "graft" / "exports" / "model"
        subprocess.run(
            [sys.executable, "-c", BUILD, str(export)], check=True, capture_output=True, timeout=180
        )
        engine.start()
        options = {"api_endpoint": engine.url}
        api = discovery.build("ml", "v1", http=CheckedHttp(), client_options=options, static_discovery=True)
        yield Server(api.projects(), "projects/local", engine.storage)
        api.close()


@pytest.fixture
def hook(server):
    return server.client(old_clients.AirflowHook)


class TestAirflow:
    def test_models_and_versions_come_and_go_by_the_rules_of_the_default(self, hook, server):
        assert hook.get_model("airflow") is None
        created = hook.create_model({"name": "airflow"})
        assert hook.create_model({"name": "airflow"}) == created
        for name in ("v1", "v2"):
            body = {
                "name": name,
                "deploymentUri": EXPORT,
                "runtimeVersion": "2.21",
                "autoScaling": {"minNodes": 0},
            }
            assert hook.create_version("airflow", body)["response"]["state"] == "READY"
        assert hook.set_default("airflow", "v2")["isDefault"] is True
        assert [version["name"][-2:] for version in hook.list_versions("airflow")] == ["v1", "v2"]
        with pytest.raises(HttpError) as error:
            hook.delete_version("airflow", "v2")
        assert error.value.status_code == 400
        with pytest.raises(HttpError):
            hook.delete_model("airflow", delete_contents=False)
        hook.delete_model("airflow", delete_contents=True)
        assert hook.get_model("airflow") is None
        hook.delete_model("airflow", delete_contents=True)

    def test_a_model_that_does_not_load_is_an_error_before_it_is_done(self, hook, server):
        for name in ("saved_model.pb", "broken"):  # the second makes the double fail, too
            server.storage.write_bytes(f"gs://graft/exports/bad/{name}", b"no model")
        hook.create_model({"name": "bad"})
        with pytest.raises(ValueError, match="Create Version failed"):
            hook.create_version("bad", {"name": "v1", "deploymentUri": "gs://graft/exports/bad"})


class TestKubeflowPipelines:
    def test_deploying_twice_is_deploying_once_and_replacing_is_not(self, server):
        kfp = server.client(old_clients.Kfp)
        first = kfp.deploy("kfp", "v1", EXPORT)
        assert (first["state"], first["isDefault"]) == ("READY", True)
        assert kfp.deploy("kfp", "v1", EXPORT)["createTime"] == first["createTime"]
        with pytest.raises(RuntimeError, match="cannot be reused"):
            kfp.deploy("kfp", "v1", "gs://graft/exports/other")
        assert kfp.deploy("kfp", "v1", EXPORT, replace=True)["createTime"] > first["createTime"]


class TestTfx:
    def test_the_pusher_deploys_and_sets_the_default_without_a_body(self, server):
        tfx = server.client(old_clients.Tfx)
        assert [tfx.create_model("tfx"), tfx.create_model("tfx")] == [True, False]
        for version in ("v1", "v2"):
            tfx.deploy("tfx", version, EXPORT, set_default=True)
        model = server.projects.models().get(name=f"{server.parent}/models/tfx").execute()
        assert model["defaultVersion"]["name"].endswith("/v2")
        outcomes = [tfx.delete_version_if_exists("tfx", version) for version in ("v9", "v2", "v1")]
        assert outcomes == ["missing", "default, and not the only one", "deleted"]
