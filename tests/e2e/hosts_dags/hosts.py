"""The first half of a training DAG, fetch to pack, over a list of pictures: one DAG for each test."""

from __future__ import annotations

from airflow.sdk import DAG
from airflow.sdk.bases.operator import chain
from graft.operators.dataset import BuildDatasetVersionOperator, FetchPicturesOperator, PackShardsOperator
from graft.training_dag import NUM_PACKERS, RETRIES, result_of

from pipeline.config import Classifier


def build(name: str, *, per_second: float) -> DAG:
    classifier = Classifier.from_dict(
        {
            "name": name,
            "dataset": {
                "source": {"type": "url_list", "uri": f"gs://graft/lists/{name}.csv"},
                "fetch": {"chunks": 2, "requests_per_second": per_second},
            },
        }
    ).to_dict()
    with DAG(dag_id=name, schedule=None, default_args=RETRIES, render_template_as_native_obj=True) as dag:
        chain(
            FetchPicturesOperator.partial(task_id="fetch", classifier=classifier, num_chunks=2).expand(
                chunk=[0, 1]
            ),
            BuildDatasetVersionOperator(task_id="clean", classifier=classifier, fetched=result_of("fetch")),
            PackShardsOperator.partial(
                task_id="pack", dataset=result_of("clean"), num_workers=NUM_PACKERS
            ).expand(worker=list(range(NUM_PACKERS))),
        )
    return dag


cut_off = build("cut_off", per_second=20)
one_worker = build("one_worker", per_second=1e6)
two_workers = build("two_workers", per_second=1e6)
