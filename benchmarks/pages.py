"""What the pages in Airflow take with many classifiers, versions and pictures: `python -m benchmarks pages`.

Airflow's database and application are real and new; the bucket is made up by `tests.fakes.pages.Fleet`, and
the engine answers from memory.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CLASSIFIERS, VERSIONS, PICTURES = 50, 100, 10_000
REPEATS = 10
MANY, OF_MANY = 1000, 10  # classifiers, and versions of each, where the list alone is looked at
RATIO = 5
BUDGET_MS = 200

SECTION = """## Pages

{classifiers} classifiers of {versions} versions and runs each, {pictures} pictures in the one that is looked
at. Milliseconds in Airflow's own application, its database included, the engine answering from memory;
asked for: {budget}. *First*: nothing has been read yet. *Then*: median of {repeats}, and what each of them
reads and lists in the bucket. *CPU* is what a quiet machine would need.

| page | first | CPU | then | CPU | objects |
|---|---|---|---|---|---|
{rows}

*Classifiers* with {of_many} versions and runs each, of {few} and of {many} classifiers in turn:
{few_cpu:.0f} and {many_cpu:.0f} ms of CPU, {ratio:.1f} times as much; asked for: at most {limit}."""


def measure() -> str:
    """Return the section."""
    import tests.airflow_environment  # noqa: F401  before any import of Airflow

    with tempfile.TemporaryDirectory() as folder:
        few_cpu, many_cpu = _measure_list(Path(folder, "many"))
        rows = _measure_pages(Path(folder, "pages"))
    return SECTION.format(
        classifiers=CLASSIFIERS,
        versions=VERSIONS,
        pictures=PICTURES,
        budget=BUDGET_MS,
        repeats=REPEATS,
        rows="\n".join(rows),
        few=CLASSIFIERS,
        many=MANY,
        of_many=OF_MANY,
        few_cpu=few_cpu,
        many_cpu=many_cpu,
        ratio=many_cpu / few_cpu,
        limit=RATIO,
    )


def _measure_list(folder: Path) -> tuple[float, float]:
    """Return the milliseconds of CPU that the list takes of few classifiers and of many."""
    from tests.fakes.pages import Fleet

    fleet, medians = Fleet(folder, classifiers=MANY, versions=OF_MANY, pictures=0), []
    for names in (fleet.names[:CLASSIFIERS], fleet.names):
        _fill_database(fleet, names)
        with _client(fleet, names) as client:
            client.get("/")
            medians.append(statistics.median(_time(client, "/", fleet)[1] for _ in range(REPEATS)))
    return medians[0], medians[1]


def _measure_pages(folder: Path) -> list[str]:
    from tests.fakes.pages import DATASET_VERSION, Fleet

    fleet = Fleet(folder, classifiers=CLASSIFIERS, versions=VERSIONS, pictures=PICTURES)
    _fill_database(fleet, fleet.names)
    name = fleet.names[0]
    addresses = {
        "*Classifiers*": "/",
        "*Versions*": f"/classifiers/{name}",
        "*Pictures*": f"/classifiers/{name}/pictures",
        "*Pictures*, found by text": f"/classifiers/{name}/pictures?text=9999&version={DATASET_VERSION}",
        "*Suspected labels*": f"/classifiers/{name}/labels",
        "*Try it*, empty": f"/classifiers/{name}/try",
    }
    rows = []
    with _client(fleet, fleet.names) as client:
        client.get("/static/pages.css")  # the application is made
        for title, address in addresses.items():
            (first, first_cpu), *then = (_time(client, address, fleet) for _ in range(REPEATS + 1))
            wall, cpu = (statistics.median(values) for values in zip(*then, strict=True))
            objects = ", ".join(f"{count} {what}" for what, count in sorted(fleet.storage.counts.items()))
            rows.append(
                f"| {title} | {first:.0f} | {first_cpu:.0f} | {wall:.0f} | {cpu:.0f} | {objects or 'none'} |"
            )
    return rows


def _time(client: Any, address: str, fleet: Any) -> tuple[float, float]:
    """Return the milliseconds that a page took, by the clock and of CPU."""
    fleet.storage.counts.clear()
    began, cpu = time.perf_counter(), time.process_time()
    answer = client.get(address)
    spent = time.perf_counter() - began, time.process_time() - cpu
    answer.raise_for_status()
    return spent[0] * 1000, spent[1] * 1000


def _client(fleet: Any, names: Sequence[str]) -> Any:
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from graft.ui.app import create_app
    from graft.ui.page_context import PageContext, get_page_context

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient

    create_auth_manager()
    page_context = PageContext(fleet.cache)
    page_context._idle.append(_engine(fleet, names))
    app = create_app()
    app.dependency_overrides[get_page_context] = lambda: page_context
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="ann", role="admin")
    return TestClient(app)


def _engine(fleet: Any, names: Sequence[str]) -> Any:
    from tests.fakes.ml_engine import FakeMLEngine

    engine = FakeMLEngine()
    for name in names:
        versions = {each["name"].rpartition("/")[2]: each for each in fleet.resources(name)}
        engine.versions[name] = versions
        default = versions[fleet.serving[name]]
        engine.models[name] = {"name": f"projects/local/models/{name}", "defaultVersion": default}
    return engine


def _fill_database(fleet: Any, names: Sequence[str]) -> None:
    """Make Airflow's tables, and put classifiers with their runs into them, and nothing else."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session
    from graft.ui.scheduler import TAG
    from sqlalchemy import delete

    initdb()
    with create_session() as session:
        for table in (DagRun, DagTag, DagModel, DagBundleModel):
            session.execute(delete(table))
        session.add(DagBundleModel(name="classifiers"))
        session.flush()
        for name in names:
            dag = DagModel(dag_id=name, bundle_name="classifiers", is_stale=False, is_paused=False)
            dag.description, dag.timetable_summary, dag.fileloc = f"Tells {name}.", "@daily", f"{name}.py"
            dag.tags = [DagTag(name=TAG, dag_id=name)]
            session.add(dag)
            session.flush()
            for run in fleet.runs[::-1]:
                row = DagRun(dag_id=name, run_id=run.run_id, run_type="manual", state=run.state)
                row.run_after, row.start_date, row.end_date = run.started, run.started, run.ended
                session.add(row)
