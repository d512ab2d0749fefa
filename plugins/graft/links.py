"""Links from a task to Graft's own pages, under `/graft/` of the API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

PAGES = "graft"


def page_url(*parts: str) -> str:
    """Return the address of one of our pages, below the API server's own."""
    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return "/".join([base, PAGES, *(quote(part, safe="") for part in parts)])


class ClassifierLink(BaseOperatorLink):
    """The page of the classifier that the task works for."""

    name = "Classifier"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's address."""
        model = model_of(operator) or ti_key.dag_id
        return page_url("classifiers", model)


class ReportLink(BaseOperatorLink):
    """The report of the run."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's address."""
        return page_url("runs", ti_key.dag_id, ti_key.run_id)


class JobLink(BaseOperatorLink):
    """The ML Engine job that works for the task: its state and its log."""

    name = "Job"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's address; empty while there is no job."""
        job_ids = getattr(operator, "job_ids", None)
        return page_url("jobs", job_ids[0]) if job_ids else ""


RUN_LINKS = (ClassifierLink(), ReportLink())


def model_of(operator: BaseOperator) -> str | None:
    """Return the model that an operator names, if it names one."""
    name = getattr(operator, "model_name", None)
    return name if isinstance(name, str) and name else None
