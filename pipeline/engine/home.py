"""Where the files of an engine are below `GRAFT_HOME`, and what tells its home from others."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def state_directory(home: Path, replica: int = 0) -> Path:
    """Return where an engine keeps what is its own: local copies of models, logs, scratch, its lock.

    Engines of one home share the rest, above all the directories of jobs: whichever leads finds them.

    Args:
        home: `GRAFT_HOME`.
        replica: Its number among the engines of the home.
    """
    engine = home / "engine"
    return engine / "replicas" / str(replica) if replica else engine


def home_id(home: Path) -> str:
    """Return the id of a home, made when it is first asked for: names of hosts change, ids do not."""
    file = home / "engine" / "home_id"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = file.with_name(f".home_id.{uuid.uuid4().hex}")
    try:
        own.write_text(uuid.uuid4().hex)
        os.link(own, file)  # of two engines that start now, one makes it
    except FileExistsError:
        pass
    finally:
        own.unlink(missing_ok=True)
    return file.read_text().strip()
