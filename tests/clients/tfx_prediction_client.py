"""The client for predictions of TFX 1.21, which its Pusher uses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from googleapiclient import discovery
from static_token import StaticToken
from tfx.extensions.google_cloud_ai_platform import prediction_clients

prediction_clients._POLLING_INTERVAL_IN_SECONDS = 0.2


document = Path(os.environ["CLIENT_DISCOVERY"]).read_text()  # Google's; TFX's googleapiclient has none itself
options = {"api_endpoint": os.environ["CLIENT_URL"]}
api = discovery.build_from_document(document, credentials=StaticToken(), client_options=options)
client = prediction_clients.CAIPTfxPredictionClient(api)
serving = {"model_name": "pushed", "project_id": "local", "regions": ["us-central1"]}
labels = {"tfx_version": "1-21-0", "tfx_executor": "pusher"}
results = {"new": client.create_model_for_aip_prediction_if_not_exist(labels, serving)}
results["again"] = client.create_model_for_aip_prediction_if_not_exist(labels, serving)
for name in ("v1", "v2", "v2"):  # the second v2 is a 409
    results["deployed"] = client.deploy_model(os.environ["CLIENT_MODEL"], name, serving, labels)
versions = api.projects().models().versions()
listed = versions.list(parent="projects/local/models/pushed").execute()["versions"]
results["versions"] = {each["name"].rpartition("/")[2]: each["state"] for each in listed}
results["default"] = [each["name"].rpartition("/")[2] for each in listed if each.get("isDefault")]
client.delete_model_from_aip_if_exists(serving, "v2")  # 400: the default, and not the only one
for name in ("v1", "v2"):
    try:
        client.delete_model_from_aip_if_exists(serving, name)
    except RuntimeError as error:
        results["error"] = str(error)
client.delete_model_from_aip_if_exists(serving, delete_model_endpoint=True)
client.delete_model_from_aip_if_exists(serving, delete_model_endpoint=True)  # 404
sys.stdout.write(json.dumps(results))
