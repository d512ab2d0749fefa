"""What counts as traffic, and that it is kept."""

from __future__ import annotations

import json

import pytest

from pipeline.engine.api.app import create_app
from pipeline.engine.telemetry.traffic import Traffic
from pipeline.errors import FormatTooNew
from pipeline.ml_engine.rest import RestMLEngine
from pipeline.ml_v1 import TEST_HEADER
from pipeline.pages.traffic import count_predictions
from tests.contract.conftest import serving

BODY = {"instances": ["x"]}


def traffic(v1) -> dict[str, int]:
    return count_predictions(v1.http.get("/metrics").text)


@pytest.fixture
def deployed(v1, parts):
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", parts.export("gs://other/export"))
    return v1


def test_it_is_kept_across_restarts_and_leaves_out_what_a_release_tries(deployed, restart):
    for path in ("models/m:predict", "models/m/versions/v1:predict"):
        deployed("POST", path, BODY)
        deployed("POST", path, BODY, headers={TEST_HEADER: "1"})
    assert deployed.http.post("/v1/projects/p:predictMany", json={"models": ["m"], **BODY}).is_success
    deployed("POST", "models/m:predict", {}, code=400)
    assert traffic(deployed) == {"m": 3}
    again = restart()
    assert traffic(again) == {"m": 3}
    again("POST", "models/m:predict", BODY)
    assert traffic(again) == {"m": 4}


def test_a_later_model_of_the_same_name_begins_at_nothing(deployed, restart):
    deployed("POST", "models/m:predict", BODY)
    deployed.wait_done(deployed("DELETE", "models/m/versions/v1"))
    deployed("DELETE", "models/m")
    deployed("POST", "models", {"name": "m"})
    assert traffic(deployed) == {}
    assert traffic(restart()) == {}


def test_what_a_release_tries_is_no_logged_traffic(deployed, parts):
    config = {"samplingPercentage": 1.0, "bigqueryTableName": "p.d.t"}
    mask = "models/m/versions/v1?updateMask=requestLoggingConfig"
    deployed("PATCH", mask, {"requestLoggingConfig": config})
    deployed("POST", "models/m:predict", BODY, headers={TEST_HEADER: "1"})
    deployed.http.app.state.engine.request_log.write()
    assert parts.storage.list_uris("gs://graft/request_logs/") == []
    deployed("POST", "models/m:predict", BODY)
    deployed.http.app.state.engine.request_log.write()
    assert len(parts.storage.list_uris("gs://graft/request_logs/")) == 1


def test_the_client_says_when_it_tries_a_version(parts):
    app = create_app(parts.engine())
    with serving(app) as url:
        client = RestMLEngine(url, "p", "", patience_seconds=0)
        client.create_model({"name": "m"})
        client.create_version("m", {"name": "v1", "deploymentUri": parts.export("gs://other/export")})
        client.predict("m", ["x"], version="v1", is_test=True)
        assert app.state.engine.traffic.counts == {}
        client.predict("m", ["x"])
        assert app.state.engine.traffic.counts == {"m": 1}
        client.close()


def test_a_full_disk_and_a_damaged_file_lose_no_prediction(tmp_path, monkeypatch, caplog):
    path = tmp_path / "traffic.json"
    counted = Traffic(path)
    counted.count("m")
    with monkeypatch.context() as disk:
        disk.setattr("os.replace", full_disk)
        counted.save()
    assert not path.exists()
    counted.save()
    assert Traffic(path).counts == {"m": 1}
    path.write_text("{")
    assert Traffic(path).counts == {}
    assert "begin anew" in caplog.text
    path.write_text(json.dumps({"format": 2, "predictions": {}}))
    with pytest.raises(FormatTooNew):
        Traffic(path)


def full_disk(*_):
    raise OSError(28, "No space left on device")
