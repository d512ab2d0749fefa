"""Notifiers: one line with the outcome of a run, and a link to it."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseHook, BaseNotifier
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException

from pipeline.artifacts.run_summary import Outcome, read_summary
from pipeline.artifacts.workspace import Workspace
from pipeline.config import NotifyConfig, Settings
from pipeline.storage import Storage

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 20
NEWS = "graft_news"
LINE_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """A message about a run.

    Args:
        outcome: The kind of news.
        text: One line that says what happened.
        classifier: The classifier, which is the DAG.
        run_id: The run.
        link: Where to look.
    """

    outcome: Outcome
    text: str
    classifier: str
    run_id: str
    link: str


class GraftNotifier(BaseNotifier):
    """Reports the outcome of a run as a callback of its tasks: a failure, or the success that ended it.

    Args:
        about: The outcomes to report; all by default.
    """

    def __init__(self, *, about: Sequence[Outcome] = tuple(Outcome)) -> None:
        super().__init__()
        self.about = tuple(about)

    def notify(self, context: Context) -> None:
        """Send the news of a context, if there is any of a kind that is wanted."""
        news = find_news(context)
        if news is not None and news.outcome in self.about:
            self.send(news)

    @abstractmethod
    def send(self, news: News) -> None:
        """Send it; a run is not worth failing for it."""


class GraftLogNotifier(GraftNotifier):
    """Writes the line into the task's log."""

    def send(self, news: News) -> None:
        """Write it."""
        log.info("%s: %s %s", news.outcome, news.text, news.link)


class GraftWebhookNotifier(GraftNotifier):
    """Posts the news as JSON: `text` with the link in it, as chat services read it, and each part by name.

    Args:
        connection: The Airflow connection whose host is the address; or whose password is, where the address
            itself is the secret. Another password is sent as bearer token.
        about: The outcomes to report; all by default.
    """

    def __init__(self, connection: str, *, about: Sequence[Outcome] = tuple(Outcome)) -> None:
        super().__init__(about=about)
        self.connection = connection

    def send(self, news: News) -> None:
        """Post it; what goes wrong is in the log, without the address, which may be a secret."""
        import requests

        body = {**asdict(news), "text": f"{news.text} {news.link}"}
        try:
            url, headers = self._address()
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(
                    url, json=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
                )
        except AirflowNotFoundException:
            log.warning("no connection %s: the news was not sent: %s", self.connection, news.text)
        except requests.RequestException as error:
            log.warning("webhook %s cannot be reached: %s", self.connection, type(error).__name__)
        else:
            if not answer.ok:
                log.warning("webhook %s answered %d", self.connection, answer.status_code)

    def _address(self) -> tuple[str, dict[str, str]]:
        connection = BaseHook.get_connection(self.connection)
        password = connection.password or ""
        if password.startswith(("http://", "https://")):
            return password, {}
        host = str(connection.host)
        if "://" not in host:
            host = f"{connection.schema or 'https'}://{host}" + (
                f":{connection.port}" if connection.port else ""
            )
        return host, {"Authorization": f"Bearer {password}"} if password else {}


def build_notifiers(notify: Iterable[NotifyConfig]) -> list[GraftNotifier]:
    """Return the notifiers of a classifier's `notify` section."""
    return [
        GraftWebhookNotifier(entry.connection, about=entry.about)
        if entry.connection
        else GraftLogNotifier(about=entry.about)
        for entry in notify
    ]


def find_news(context: Context) -> News | None:
    """Return the news of a context: set by the task, or its failure, or the end of its run."""
    values: Mapping[str, Any] = context
    if values.get(NEWS):
        news: News = values[NEWS]
        return news
    dag_id, run_id, task_id = _names(context)
    if exception := values.get("exception"):
        error = str(exception) or type(exception).__name__
        return make_news(Outcome.FAILED, f"{task_id} failed: {error}", dag_id, run_id)
    workspace = Workspace(Storage.from_environment(), Settings().workspace)
    summary = read_summary(workspace, dag_id, run_id)
    if summary is None or (task_id is not None and summary.ended_by != task_id):
        return None
    return make_news(summary.state, summary.line, dag_id, run_id)


def make_news(outcome: Outcome, text: str, classifier: str, run_id: str, *, page: str = "") -> News:
    """Return news with its link.

    Args:
        outcome: The kind of news.
        text: What happened; made one line.
        classifier: The classifier, which is the DAG.
        run_id: The run.
        page: The page of the run to look at, its overview unless given.
    """
    line = " ".join(f"{classifier}: {text}".split())
    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    link = f"{base}/dags/{quote(classifier, safe='')}/runs/{quote(run_id, safe='')}{page}"
    if len(line) > LINE_LENGTH:
        line = line[: LINE_LENGTH - 1] + "…"
    return News(outcome=outcome, text=line, classifier=classifier, run_id=run_id, link=link)


def _names(context: Context) -> tuple[str, str, str | None]:
    """Return DAG, run and task; a DAG's own callback may know no task."""
    ti = context.get("ti")
    if ti is not None:
        return ti.dag_id, ti.run_id, ti.task_id
    return context["dag"].dag_id, context["run_id"], None
