"""What a stack is made of: all of it embedded, for a laptop, or PostgreSQL, Redis and Celery, for a team."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import StackError
from pipeline.types import Profile

DEFAULT_WORKERS = 2
POSTGRES = "postgres"
REDIS = "redis"
HAPROXY = "haproxy"
SERVERS = (POSTGRES, REDIS)  # that a team's stack starts where none are named


def password_table(home: Path) -> Path:
    """Return the file that libpq finds passwords in; each home of a team has one, and no other home."""
    return home / "airflow" / "pgpass"


def find_profile(home: Path) -> Profile | None:
    """Return whose state a home has, or None if it has none yet."""
    if password_table(home).exists():
        return Profile.TEAM
    databases = (home / "airflow" / "airflow.db", home / "engine" / "engine.db")
    return Profile.LAPTOP if any(path.exists() for path in databases) else None


def choose_profile(home: Path, asked: Profile | None) -> Profile:
    """Return the profile to start: that of the home, or the one that is asked for where there is no state.

    Raises:
        StackError: if the home has the state of the other one.
    """
    present = find_profile(home)
    if present and asked and present is not asked:
        raise StackError(
            f"{home} has the state of the profile {present}, which the profile {asked} does not read. Start "
            f"it with `graft up --profile {present}`, or name an empty directory: "
            f"`GRAFT_HOME=... graft up --profile {asked}`. Datasets and models can be shared: map the bucket "
            "in GRAFT_BUCKETS, then run `graft engine rebuild`.",
            home=str(home),
        )
    return present or asked or Profile.LAPTOP
