"""*Use it*: programs that ask a classifier from outside, complete as they stand on the page.

Each reads the token from the environment, so that no secret is on the page or in a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

CURL = """curl -sS "$url:predict" \\
  -H "Authorization: Bearer $$GRAFT_TOKEN" -H "Content-Type: application/json" --data-binary @- <<JSON
{"signature_name": "keyed",
 "instances": [{"key": "1", "inputs": {"b64": "$$(base64 < photo.jpg | tr -d '\\n')"}}]}
JSON
"""
REQUESTS = """import base64
import os

import requests

files = ["photo.jpg"]  # several pictures go into one request
instances = [
    {"key": file, "inputs": {"b64": base64.b64encode(open(file, "rb").read()).decode()}} for file in files
]
answer = requests.post(
    "$url:predict",
    headers={"Authorization": "Bearer " + os.environ["GRAFT_TOKEN"]},
    json={"signature_name": "keyed", "instances": instances},
    timeout=60,
)
answer.raise_for_status()
if "error" in answer.json():  # of a picture that cannot be read, as in v1
    raise SystemExit(answer.json()["error"])
for each in answer.json()["predictions"]:
    print(each["key"], each["label"], each["score"])
"""
GOOGLE = """import base64
import os

import google.auth.credentials
from googleapiclient import discovery


class StaticToken(google.auth.credentials.Credentials):
    def __init__(self, token):
        super().__init__()
        self.token = token

    def refresh(self, request):
        pass

    expired = property(lambda self: False)
    valid = property(lambda self: True)


ml = discovery.build(
    "ml",
    "v1",
    credentials=StaticToken(os.environ["GRAFT_TOKEN"]),
    client_options={"api_endpoint": "$endpoint"},
    static_discovery=True,
)
picture = base64.b64encode(open("photo.jpg", "rb").read()).decode()
body = {"signature_name": "keyed", "instances": [{"key": "1", "inputs": {"b64": picture}}]}
print(ml.projects().predict(name="$name", body=body).execute())
"""
NODE = """// node ask.mjs photo.jpg
import { readFile } from "node:fs/promises";

const picture = await readFile(process.argv[2] ?? "photo.jpg");
const answer = await fetch("$url:predict", {
  method: "POST",
  headers: { Authorization: "Bearer " + process.env.GRAFT_TOKEN, "Content-Type": "application/json" },
  body: JSON.stringify({
    signature_name: "keyed",
    instances: [{ key: "1", inputs: { b64: picture.toString("base64") } }],
  }),
});
const { predictions, error } = await answer.json();
if (error) throw new Error(JSON.stringify(error));
console.log(predictions[0].label, predictions[0].score);
"""
BROWSER = """// On a page of your server that passes /ask on to the engine: keep the token there.
const file = document.querySelector("input[type=file]").files[0];
const url = await new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});
const answer = await fetch("/ask", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({
    signature_name: "keyed",
    instances: [{ key: file.name, inputs: { b64: url.split(",")[1] } }],
  }),
});
console.log((await answer.json()).predictions[0].label);
"""
BATCH = """# photos.jsonl has one {"key": "1", "inputs": {"b64": "..."}} a line; GRAFT_TOKEN is a trainer's.
curl -sS "$endpoint/v1/projects/$project/jobs" \\
  -H "Authorization: Bearer $$GRAFT_TOKEN" -H "Content-Type: application/json" --data-binary @- <<JSON
{"jobId": "batch_$$(date +%s)",
 "predictionInput": {"modelName": "$name", "signatureName": "keyed", "dataFormat": "JSON", "region": "local",
                     "inputPaths": ["$bucket/batch/photos.jsonl"], "outputPath": "$bucket/batch/answers"}}
JSON
"""
SNIPPETS = (
    ("curl", "curl", CURL),
    ("python", "Python with requests", REQUESTS),
    ("google", "Python with Google's client", GOOGLE),
    ("node", "JavaScript in Node 18 or newer", NODE),
    ("browser", "JavaScript in a browser", BROWSER),
    ("batch", "Batch prediction: a job for any number of pictures", BATCH),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A program as it stands on the page.

    Args:
        key: Names it in the page's addresses.
        title: For people.
        text: The program.
    """

    key: str
    title: str
    text: str


def write_snippets(endpoint: str, *, project: str, model: str, bucket: str) -> list[Snippet]:
    """Return the programs that ask a model.

    Args:
        endpoint: Address of the engine.
        project: The engine's.
        model: Its name.
        bucket: Where the files of a batch prediction are, `gs://graft` for instance.
    """
    name = f"projects/{project}/models/{model}"
    endpoint = endpoint.rstrip("/")
    values = {
        "endpoint": endpoint,
        "project": project,
        "bucket": bucket,
        "name": name,
        "url": f"{endpoint}/v1/{name}",
    }
    return [
        Snippet(key=key, title=title, text=Template(text).substitute(values)) for key, title, text in SNIPPETS
    ]
