"""Health check of a container of Airflow: `python docker/health.py scheduler`; exit code 0 if healthy."""

from __future__ import annotations

import json
import os
import sys
import urllib.request

REPORTS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


def is_healthy(report: dict[str, dict[str, str]], component: str) -> bool:
    """Return True if Airflow's report says that a component is; the API server is if there is a report."""
    return component not in REPORTS or report.get(REPORTS[component], {}).get("status") == "healthy"


def main(component: str) -> int:
    """Ask the API server; return the exit code."""
    url = os.environ.get("GRAFT_HEALTH_URL", "http://api-server:8080") + "/api/v2/monitor/health"
    try:
        with urllib.request.urlopen(url, timeout=8) as answer:
            return 0 if is_healthy(json.load(answer), component) else 1
    except (OSError, ValueError):
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
