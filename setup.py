"""What the distribution holds; names, entry points and extras are in pyproject.toml.

`plugins/graft` is installed as the package `graft`, and `dags/` within it. Neither `plugins` nor `dags` is a
top-level package then, for an Airflow that exists has folders of these names.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_namespace_packages, setup

REQUIREMENTS = Path(__file__).with_name("requirements.in").read_text(encoding="utf-8").splitlines()
AIRFLOW = "apache-airflow=="


def installed_requirement(line: str) -> str:
    """Return a line of requirements.in; a patch release of Airflow is no reason to refuse an installation."""
    return line.replace(AIRFLOW, "apache-airflow~=") if line.startswith(AIRFLOW) else line


setup(
    packages=[
        *find_namespace_packages(include=["pipeline*"]),
        *find_namespace_packages("plugins", include=["graft*"]),
        "graft.dags",
        "graft.dags.classifiers",
    ],
    package_dir={"graft": "plugins/graft", "graft.dags": "dags"},
    package_data={
        "graft.dags.classifiers": ["*.yaml"],
        "graft.ui": ["static/*", "templates/*"],
        "pipeline.engine": ["migrations/*", "migrations/versions/*"],
        "pipeline.report": ["templates/*"],
        "pipeline.preprocess.cards": ["templates/*"],
    },
    install_requires=[
        installed_requirement(line) for line in REQUIREMENTS if line and not line.startswith("#")
    ],
)
