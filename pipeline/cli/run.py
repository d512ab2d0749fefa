"""`graft run`: start a classifier's DAG, watch it, and print its result."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from pipeline.airflow_api import AirflowApi, TaskInstance, find_error
from pipeline.cli.connection import connect_airflow, open_workspace, pages_url, require_stack
from pipeline.cli.fetch_log import FetchLog
from pipeline.cli.output import (
    ExitCode,
    JsonOption,
    NameArgument,
    UsageError,
    print_json,
    print_note,
    print_text,
)
from pipeline.cli.progress import RunProgress, summarise_stages
from pipeline.cli.redo import redo_step
from pipeline.cli.run_result import RunResult, print_result
from pipeline.errors import ConfigError, StackError, StackUnavailable
from pipeline.types import JsonObject, JsonValue

if TYPE_CHECKING:
    from pipeline.artifacts.run_summary import RunSummary
    from pipeline.config import Classifier, Settings

DAG_BUNDLE = "classifiers"
PARSE_SECONDS = 180  # Airflow on busy cores takes long for several new files at once
POLL_SECONDS = 1.0
SILENT_SECONDS = 600  # how long Airflow may not answer before that is an error
STOPPED_SECONDS = 120  # how long a run is watched while a part of the stack is down, before that is an error
PLACES = ("dataset.source.uri", "model.weights", "model.head.module")
ENDED = ("success", "failed")
AT_WORK = ("running", "queued", "scheduled")  # no run ends while a task of it is in one of these states
AWAITING = "awaiting_input"
IF_CHANGED = "retrain.unchanged=skip"

ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=VALUE", help="Change one value for this run, e.g. model.epochs=40."),
]
IfChangedOption = Annotated[
    bool,
    typer.Option(
        "--if-changed", help="Train only if pictures or parameters are not those of the serving version."
    ),
]
ForceOption = Annotated[
    str | None,
    typer.Option(
        "--force",
        metavar="STEP",
        help="Start no run: do a step of the last run again, such as train, and the steps after it.",
    ),
]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Start the run and return at once.")]


def run(
    name: NameArgument,
    param: ParamOption = None,
    if_changed: IfChangedOption = False,
    force: ForceOption = None,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a classifier: fetch, train, evaluate, gate, deploy. Ctrl-C stops watching, not the run."""
    from pipeline.config import Settings

    settings = Settings()
    conf = read_params(name, [*(param or []), *([IF_CHANGED] if if_changed else [])], settings)
    if force is not None and conf:
        raise UsageError(
            "--force does a step of the last run again, with that run's parameters: leave out others"
        )
    api = connect_airflow(require_stack())
    if force is None:
        check_sources(name, conf, settings)
        run_id = start_run(api, name, conf, settings)
    else:
        run_id = redo_step(api, name, force)
    if no_wait:
        started = {"classifier": name, "run_id": run_id, "state": "queued"}
        print_json(started) if as_json else print_text(f"Run {run_id} of {name} is queued.")
        return
    try:
        result = watch_run(api, name, run_id, settings)
    except KeyboardInterrupt:
        print_note(f"\nStopped watching; run {run_id} goes on. Airflow shows it: {api.url}/dags/{name}")
        raise typer.Exit(ExitCode.ERROR) from None
    print_json(result.to_dict()) if as_json else print_result(result, pages_url(api.url))
    raise typer.Exit(result.exit_code)


def read_params(name: str, params: list[str], settings: Settings) -> dict[str, JsonValue]:
    """Check a run's parameters against its classifier and return them under their full names.

    Raises:
        UsageError: for an unknown classifier or parameter, or a value that does not fit.
        ConfigError: if the classifier's YAML is broken.
    """
    from pipeline.config import absolute_uri, full_name, with_params
    from pipeline.config.problems import show
    from pipeline.config.yaml_text import parse_yaml

    classifier = require_classifier(name, settings)
    values: dict[str, JsonValue] = {}
    for text in params:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--param is KEY=VALUE, e.g. model.epochs=40. Received: {text!r}")
        try:
            values[key] = parse_yaml(value)
        except ConfigError as error:
            raise UsageError(f"--param {key}: the value is not YAML. Received: {show(value)}") from error
    try:
        with_params(classifier, values)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    return {
        (full := full_name(key)): absolute_uri(value, (Path.cwd(),))
        if full in PLACES and isinstance(value, str)
        else value
        for key, value in values.items()
    }


def check_sources(name: str, conf: JsonObject, settings: Settings) -> None:
    """Make sure that what the run's sources name is there, before Airflow starts a task.

    Raises:
        UsageError: naming each folder, file, bucket or address that is not.
    """
    from pipeline.config import with_params
    from pipeline.datasets.fetcher import FetchPolicy
    from pipeline.datasets.sources.presence import find_missing_sources

    classifier = with_params(require_classifier(name, settings), conf)
    policy = FetchPolicy.from_environment(classifier.dataset.fetch)
    problems = list(find_missing_sources(open_workspace(settings).storage, classifier, policy))
    if problems:
        raise UsageError(f"{name} was not started: {'; '.join(map(str, problems))}.")


def require_classifier(name: str, settings: Settings) -> Classifier:
    """Return the classifier of this name.

    Raises:
        UsageError: if there is none.
        ConfigError: if its YAML is broken.
    """
    from pipeline.config import find_classifier

    try:
        return find_classifier(name, settings)
    except ConfigError as error:
        if "classifier" in error.details:
            raise UsageError(str(error)) from error
        raise


def start_run(api: AirflowApi, name: str, conf: JsonObject, settings: Settings) -> str:
    """Make sure that Airflow knows the DAG as its YAML is now, and start it.

    Raises:
        StackError: if Airflow cannot read it, does not know it after `PARSE_SECONDS`, or refuses the run.
    """
    deadline = time.monotonic() + PARSE_SECONDS
    path = _file_of(name, settings)
    changed = path.stat().st_mtime if path else 0.0
    announced = False
    while not _is_read(api.last_parsed(name), changed):
        if not announced:
            print_note(f"asking Airflow to read {name} again")
            api.request_parse(name, DAG_BUNDLE)
            announced = True
        for error in api.import_errors():
            # The bundle of classifiers names a file with `.py`.
            if (
                path
                and Path(error.filename).name.removesuffix(".py") == path.name
                and _is_read(error.at, changed)
            ):
                raise StackError(f"Airflow cannot make a DAG of {name}:\n{error.stack_trace}")
        if time.monotonic() > deadline:
            raise StackError(_unknown_dag(api, name, settings))
        time.sleep(POLL_SECONDS)
    return api.trigger(name, conf)


def _file_of(name: str, settings: Settings) -> Path | None:
    """Return the YAML of a classifier; None if it is the DAG of a file in Python."""
    from pipeline.config.files import find_classifier_file

    return find_classifier_file(name, settings)


def _is_read(parsed: datetime | None, changed: float) -> bool:
    return parsed is not None and parsed.timestamp() >= changed


def _unknown_dag(api: AirflowApi, name: str, settings: Settings) -> str:
    errors = api.import_errors()
    mine = [error for error in errors if name in error.filename or name in error.stack_trace]
    text = f"Airflow has made no DAG of {name} within {PARSE_SECONDS} s. "
    if mine or errors:
        traces = "\n".join(f"{error.filename}:\n{error.stack_trace}" for error in mine or errors)
        return f"{text}Its import errors:\n{traces}"
    directories = ", ".join(str(path) for path in settings.classifier_directories)
    return (
        f"{text}It has no import errors, so the stack may have been started with other directories than "
        f"{directories}: run `graft up` again."
    )


class _StackWatch:
    """Raises an error when a part of the stack stays down, or Airflow silent: the watch would never end.

    Args:
        settings: Whose stack.
        run_id: The run that is watched.
    """

    def __init__(self, settings: Settings, run_id: str) -> None:
        self._settings = settings
        self._run_id = run_id
        self._up_at = self._answered_at = time.monotonic()
        self._is_answering = True

    def has_answered(self) -> None:
        """Note that Airflow has answered."""
        self._answered_at, self._is_answering = time.monotonic(), True

    def wait_for_airflow(self, error: StackUnavailable) -> None:
        """Wait a little, because Airflow does not answer.

        Raises:
            StackError: if it has not answered for `SILENT_SECONDS`.
        """
        if time.monotonic() - self._answered_at > SILENT_SECONDS:
            raise StackError(
                f"{error} It has not answered for {SILENT_SECONDS} s, so run {self._run_id} is no longer "
                "watched; it goes on as soon as Airflow does."
            ) from error
        if self._is_answering:
            self._is_answering = False
            print_note(
                f"Airflow does not answer; run {self._run_id} goes on, and is watched again once it does"
            )
        time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Look once.

        Raises:
            StackError: if something has been down for `STOPPED_SECONDS`.
        """
        from pipeline.stack import status

        down = ", ".join(status(self._settings).stopped)
        if not down:
            self._up_at = time.monotonic()
        elif time.monotonic() - self._up_at > STOPPED_SECONDS:
            raise StackError(
                f"The run waits for what is not running: {down}. `graft up` starts it again, and the run "
                f"goes on; why it ended is in {self._settings.home / 'logs'}."
            )


def watch_run(api: AirflowApi, name: str, run_id: str, settings: Settings) -> RunResult:
    """Show a run until it ends, and return its result."""
    print_note(f"run {run_id} of {name}")
    announced, downloads, stack = False, FetchLog(api), _StackWatch(settings, run_id)
    with RunProgress() as progress:
        while True:
            stack.check()
            try:
                state, instances = _look(api, name, run_id)
                transfers = downloads.read(instances)
            except StackUnavailable as silence:
                stack.wait_for_airflow(silence)
                continue
            stack.has_answered()
            stages = summarise_stages(instances)
            progress.show(stages, transfers)
            if not announced and any(stage.state == AWAITING for stage in stages):
                announced = True
                print_note(f"waiting for approval: {api.url}/dags/{name}/runs/{quote(run_id, safe='')}")
            if state in ENDED:
                break
            time.sleep(POLL_SECONDS)
    seconds = {stage.name: stage.seconds for stage in stages if stage.seconds is not None}
    if state == "failed":
        error = _find_failure(api, instances)
        return RunResult(classifier=name, run_id=run_id, error=error, seconds=seconds)
    summary = _read_summary(settings, name, run_id)
    return RunResult(classifier=name, run_id=run_id, summary=summary, seconds=seconds)


def _look(api: AirflowApi, name: str, run_id: str) -> tuple[str, list[TaskInstance]]:
    """Return the run's state and its task instances; the state is asked for only if no task is at work."""
    instances = api.task_instances(name, run_id)
    if any(instance.state in AT_WORK for instance in instances):
        return "running", instances
    state = api.run_state(name, run_id)
    return state, api.task_instances(name, run_id) if state in ENDED else instances


def _read_summary(settings: Settings, name: str, run_id: str) -> RunSummary:
    from pipeline.artifacts.run_summary import read_summary

    workspace = open_workspace(settings)
    summary = read_summary(workspace, name, run_id)
    if summary is None:
        raise StackError(
            f"Run {run_id} succeeded but left no {workspace.run(name, run_id).summary}. Are GRAFT_HOME and "
            "GRAFT_BUCKETS the same here as for `graft up`?"
        )
    if summary.reason:
        print_note(summary.reason)
    return summary


def _find_failure(api: AirflowApi, instances: list[TaskInstance]) -> str:
    """Return the first task that failed, and why."""
    failed = [instance for instance in instances if instance.state == "failed"]
    return f"{failed[0].task_id}: {find_error(api.task_log(failed[0]))}" if failed else "no task failed"
