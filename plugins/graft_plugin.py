"""The one file that Airflow's plugin loader runs; the package beside it is imported by its users.

Where Graft is installed, Airflow finds the plugin by its entry point, and nothing is named here: Airflow
reports a plugin that it finds twice as an error.
"""

from __future__ import annotations

from importlib.metadata import distributions

entry_points = (point for package in distributions(name="graft") for point in package.entry_points)
if not any(point.group == "airflow.plugins" for point in entry_points):
    from graft.plugin import GraftPlugin  # noqa: F401  Airflow looks for it among this module's names
