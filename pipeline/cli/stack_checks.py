"""What `graft doctor` checks of the stack: its databases and servers, its processes, and what they tell."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.finding import Finding
from pipeline.errors import ConfigError, PipelineError, StackError

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.stack import StackStatus
    from pipeline.stack.machines import Machine
    from pipeline.stack.state import StackState


def check_databases(settings: Settings) -> Iterator[Finding]:
    """Look for damage in the databases."""
    from pipeline.stack.databases import airflow_remedy, engine_remedy, find_damage
    from pipeline.stack.environment import database_path
    from pipeline.stack.profile import find_profile
    from pipeline.stack.state import load_state
    from pipeline.types import Profile

    if find_profile(settings.home) is Profile.TEAM:
        yield from _check_services(settings) if not load_state(settings.home).joined else ()
        return
    databases = [("Airflow database", database_path(settings), airflow_remedy)]
    if settings.database:
        yield _check_server("engine database", settings, settings.database, settings.database_password_file)
    else:
        databases.append(("engine database", settings.home / "engine" / "engine.db", engine_remedy))
    for check, path, remedy in databases:
        if damage := find_damage(path):
            yield Finding(check=check, state="broken", detail=remedy(path, damage))


def _check_services(settings: Settings) -> Iterator[Finding]:
    """Connect to a team's databases and broker, and ask its workers; a stopped stack is no fault."""
    from pipeline.stack.health import is_engine_healthy
    from pipeline.stack.join_file import is_listening
    from pipeline.stack.services import broker_problem, check_extra, find_services, silent_workers
    from pipeline.stack.state import load_state

    state = load_state(settings.home)
    if not any(record.is_alive for record in state.processes):
        return
    check_extra()
    services = find_services(settings, state)
    for check, url in (
        ("engine database", services.engine_database),
        ("Airflow database", services.airflow_database),
    ):
        yield _check_server(check, settings, url, services.database_password_file)
    second = state.second_engine_url
    yield _answers("engine-2", second, is_engine_healthy(second))
    problem = broker_problem(services)
    if problem:
        detail = f"Redis at {services.broker} cannot be used: {problem}. `graft up` starts its own again"
        yield Finding(check="broker", state="broken", detail=detail)
        return
    yield Finding(check="broker", state="ok", detail=f"Redis at {services.broker}")
    if state.address:
        yield from _check_gateway(settings, state)
    if state.serves:
        yield _answers("front", state.serves, is_listening(state.serves))
    if silent := silent_workers(settings, state):
        detail = f"no answer from {', '.join(silent)}. `graft up` starts those that ended"
        yield Finding(check="workers", state="broken", detail=detail)
    else:
        yield Finding(check="workers", state="ok", detail=f"{state.workers} Celery workers answer")


def _check_gateway(settings: Settings, state: StackState) -> Iterator[Finding]:
    """Look at the port that other machines reach, and at who has joined."""
    from pipeline.stack.join_file import is_listening
    from pipeline.stack.machines import read_machines

    yield _answers("gateway", state.address, is_listening(state.address))
    machines = read_machines(settings.home)
    if not state.workers and not any(each.slots for each in machines):
        detail = f"no worker here, and no machine has joined: tasks wait. `graft join {state.address}` there"
        yield Finding(check="machines", state="broken", detail=detail)
        return
    names = ", ".join(map(_describe_machine, machines)) or "none has joined"
    yield Finding(check="machines", state="ok", detail=names)


def _describe_machine(machine: Machine) -> str:
    does = f"predicts at {machine.serves}" if machine.serves else f"{machine.slots} slots"
    return f"{machine.name} ({does})"


def _check_joined(settings: Settings, stack: StackStatus) -> Iterator[Finding]:
    """Look at the link of a machine that has joined, and ask its worker through it."""
    from pipeline.stack.join_file import is_listening
    from pipeline.stack.joining import is_answering
    from pipeline.stack.link import link_problem

    if stack.stopped:
        detail = f"not running: {', '.join(stack.stopped)}. `graft join {stack.joined}` starts them"
        yield Finding(check="stack", state="broken", detail=detail)
        return
    if problem := link_problem(settings.home):
        yield Finding(check="link", state="broken", detail=problem)
        return
    yield Finding(check="link", state="ok", detail=f"joined the stack at {stack.joined}")
    if stack.serves:
        yield _answers("server", stack.serves, is_listening(stack.serves))
        return
    if is_answering(settings.home):
        yield Finding(check="workers", state="ok", detail="the Celery worker answers")
    else:
        detail = f"no answer from the Celery worker. `graft join {stack.joined}` starts it again"
        yield Finding(check="workers", state="broken", detail=detail)


def _check_server(check: str, settings: Settings, url: str, password_file: Path | None) -> Finding:
    """Connect to a PostgreSQL database."""
    from pipeline.engine.control import database_name, database_problem

    where = (settings.home, url, password_file)
    try:
        name, problem = database_name(*where), database_problem(*where)
    except ConfigError as error:
        return Finding(check=check, state="broken", detail=error.message)
    if problem is None:
        return Finding(check=check, state="ok", detail=f"PostgreSQL at {name}")
    variable = "GRAFT_DATABASE" if check == "engine database" else "GRAFT_AIRFLOW_DATABASE"
    detail = f"{variable}: {name} cannot be used: {problem}"
    return Finding(check=check, state="broken", detail=detail)


def check_stack(settings: Settings) -> Iterator[Finding]:
    """Check the health of the running components; a stopped stack is no fault."""
    from pipeline.config import classifier_files
    from pipeline.stack import status
    from pipeline.stack.health import get_json, is_engine_healthy
    from pipeline.stack.status import Overall

    stack = status(settings)
    if stack.state is Overall.STOPPED:
        yield Finding(check="stack", state="note", detail="not running; `graft up` starts it")
        return
    if stack.joined:
        yield from _check_joined(settings, stack)
        return
    if stack.stopped:
        detail = (
            f"not running: {', '.join(stack.stopped)}. `graft up` starts them; logs: {settings.home / 'logs'}"
        )
        yield Finding(check="stack", state="broken", detail=detail)
    engine_answers = is_engine_healthy(f"{stack.engine.url}")
    yield _answers("engine", stack.engine.url, engine_answers)
    if engine_answers:
        yield from _lost_models(stack, settings)
        yield from _damaged_versions(stack)
    airflow_answers = get_json(f"{stack.airflow.url}/api/v2/monitor/health") is not None
    yield _answers("airflow", stack.airflow.url, airflow_answers)
    if airflow_answers:
        yield from _import_errors(stack, {str(path) for path in classifier_files(settings)})


def _answers(name: str, url: str | None, is_healthy: bool) -> Finding:
    if is_healthy:
        return Finding(check=name, state="ok", detail=f"{url}")
    detail = f"{url} does not answer. `graft down`, then `graft up`"
    return Finding(check=name, state="broken", detail=detail)


def _lost_models(stack: StackStatus, settings: Settings) -> Iterator[Finding]:
    from pipeline.cli.connection import connect_engine, open_workspace
    from pipeline.deploy.rebuild import unregistered_versions

    try:
        lost = unregistered_versions(open_workspace(settings), connect_engine(stack))
    except PipelineError as error:
        yield Finding(check="engine database", state="broken", detail=str(error))
        return
    if lost:
        names = ", ".join(f"{model} ({len(versions)} versions)" for model, versions in lost.items())
        detail = f"it does not know models of the bucket: {names}. `graft engine rebuild` registers them"
        yield Finding(check="engine database", state="broken", detail=detail)


def _damaged_versions(stack: StackStatus) -> Iterator[Finding]:
    from pipeline.cli.connection import connect_engine
    from pipeline.deploy.staging import is_staging
    from pipeline.ml_engine.protocol import resource_id
    from pipeline.ml_v1 import DAMAGED_FILES

    engine = connect_engine(stack)
    with suppress(PipelineError):  # an engine that does not answer is a finding already
        for model in map(resource_id, engine.list_models()):
            if is_staging(model):
                continue
            for version in engine.list_versions(model):
                message = version.get("errorMessage", "")
                if message.startswith(DAMAGED_FILES):
                    detail = f"{resource_id(version)} is not served. {message}"
                    yield Finding(check=f"model {model}", state="broken", detail=detail)


def _import_errors(stack: StackStatus, checked: Collection[str]) -> Iterator[Finding]:
    from pipeline.cli.connection import connect_airflow

    try:
        failures = connect_airflow(stack, patience_seconds=0).import_errors()
    except StackError as error:
        yield Finding(check="airflow", state="broken", detail=str(error))
        return
    for failure in failures:
        if any(path in f"{failure.filename}\n{failure.stack_trace}" for path in checked):
            continue  # `check_classifiers` names the mistake already
        last = failure.stack_trace.strip().splitlines()[-1]
        yield Finding(check="Airflow import", state="broken", detail=f"{failure.filename}: {last}")
