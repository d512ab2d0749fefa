"""The page of a classifier's DAG in the UI: what it does, its parameters, and every way to start it."""

from __future__ import annotations

import json

from graft.params import params_table
from pipeline.config import ON_DATASET_CHANGE, Classifier


def describe_dag(classifier: Classifier) -> str:
    """Return the page as Markdown."""
    name = classifier.name
    return f"""# {name}

{classifier.description or "An image classifier."}

Fetches pictures, cleans and packs them, trains a head on {classifier.model.backbone_name} on ML Engine,
evaluates what will be served, and gives a version that passes the gate{_approval(classifier)} the traffic of
model `{name}`.
A run that the gate refuses is green; its note says why. {_schedule(classifier)}

## Parameters of one run

{params_table(classifier)}

## Start a run

{_examples(classifier)}
"""


def _approval(classifier: Classifier) -> str:
    return " and is approved by a person" if classifier.asks_a_person else ""


def _schedule(classifier: Classifier) -> str:
    if classifier.schedule is None:
        return "It runs by hand only."
    when = (
        "at every event of new pictures"
        if classifier.schedule == ON_DATASET_CHANGE
        else f"by the schedule `{classifier.schedule}`"
    )
    return f"It also runs {when}; where nothing is new since the serving version, such a run trains nothing."


def _examples(classifier: Classifier) -> str:
    name = classifier.name
    conf = {"model.epochs": classifier.model.epochs}
    parts = [
        f"""```bash
graft run {name} --param model.epochs={classifier.model.epochs}
graft run {name} --if-changed        # trains only if pictures or parameters are new

TOKEN=$(curl -s -X POST "$AIRFLOW_URL/auth/token" -H 'Content-Type: application/json' \\
  -d "{{\\"username\\": \\"$USERNAME\\", \\"password\\": \\"$PASSWORD\\"}}" | jq -r .access_token)
{_post(f"dags/{name}/dagRuns", {"logical_date": None, "conf": conf})}
```

Train again on an older dataset version (`graft versions {name}` says which one each version was made of):

```bash
{_post(f"dags/{name}/dagRuns", {"logical_date": None, "conf": {"dataset.as_of": "d_0123456789ab"}})}
```"""
    ]
    if classifier.schedule == ON_DATASET_CHANGE:
        parts.append(_event_example(name))
    elif classifier.schedule is not None:
        parts.append(_backfill_example(name))
    if classifier.asks_a_person:
        parts.append(_approval_example(name))
    return "\n\n".join(parts)


def _post(path: str, body: object, *, method: str = "POST") -> str:
    return f"""curl -X {method} "$AIRFLOW_URL/api/v2/{path}" \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{json.dumps(body)}'"""


def _event_example(name: str) -> str:
    return f"""Tell that there are new pictures (a burst of events makes one training):

```bash
ASSET=$(curl -s -G "$AIRFLOW_URL/api/v2/assets" -H "Authorization: Bearer $TOKEN" \\
  --data-urlencode 'uri_pattern=graft://sources/{name}' | jq '.assets[0].id')
curl -X POST "$AIRFLOW_URL/api/v2/assets/events" \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d "{{\\"asset_id\\": $ASSET, \\"extra\\": {{\\"pictures\\": 12}}}}"
```"""


def _backfill_example(name: str) -> str:
    body = {
        "dag_id": name,
        "from_date": "2026-01-01T00:00:00Z",
        "to_date": "2026-01-02T00:00:00Z",
        "max_active_runs": 1,
    }
    return f"""A backfill trains again as of its dates, on the dataset version that was the latest one then:

```bash
{_post("backfills", body)}
```"""


def _approval_example(name: str) -> str:
    path = f"dags/{name}/dagRuns/$RUN_ID/taskInstances/approve/-1/hitlDetails"
    body = {"chosen_options": ["Approve"], "params_input": {"reason": "looks right"}}
    return f"""Approve or reject (*Required Actions* in the UI does the same):

```bash
{_post(path, body, method="PATCH")}
```"""
