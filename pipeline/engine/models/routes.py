"""The routes of predictions, as the database has them: read when an engine starts, and while it follows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, select

from pipeline.engine.models.resources import version_spec
from pipeline.engine.models.rollout import Rollout, describe_unready, is_damaged
from pipeline.engine.serving.router import Router
from pipeline.engine.store import ModelRow, RouteChangeRow, Store, VersionRow
from pipeline.engine.v1.responses import VersionState

KEPT_CHANGES = 10_000  # a follower polls twice a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Models and their versions, the newest version first."""

    models: list[ModelRow]
    versions: list[VersionRow]


class Routes:
    """Tells the router what the database says of models and versions.

    Args:
        store: The database.
        router: Routes predictions.
        rollout: Makes the deployments of versions.
    """

    def __init__(self, store: Store, router: Router, rollout: Rollout) -> None:
        self._store = store
        self._router = router
        self._rollout = rollout
        self._served: dict[tuple[str, str], VersionRow] = {}
        self._last_change = 0
        self._closing: set[asyncio.Task[None]] = set()

    def load(self) -> None:
        """Serve the READY versions: defaults at once, the others on demand."""
        with self._store.begin() as session:
            last = session.scalar(select(RouteChangeRow.seq).order_by(RouteChangeRow.seq.desc()).limit(1))
            rows = Rows(
                models=list(session.scalars(select(ModelRow))),
                versions=list(session.scalars(select(VersionRow).order_by(VersionRow.seq.desc()))),
            )
        names = {model for model, _ in self._served} | {row.name for row in rows.models}
        self._apply(rows, names, is_new=False)
        self._last_change = last or 0

    def follow(self, last_change: int) -> bool:
        """Read again what changed since the last time; return whether anything did.

        Args:
            last_change: The number of the newest change.
        """
        if last_change == self._last_change:
            return False
        with self._store.begin() as session:
            since = select(RouteChangeRow.model, RouteChangeRow.seq).where(
                RouteChangeRow.seq > self._last_change
            )
            changes = session.execute(since).all()
            names = {model for model, _ in changes}
            newest = VersionRow.seq.desc()
            rows = Rows(
                models=list(session.scalars(select(ModelRow).where(ModelRow.name.in_(names)))),
                versions=list(
                    session.scalars(select(VersionRow).where(VersionRow.model.in_(names)).order_by(newest))
                ),
            )
        self._apply(rows, names, is_new=True)
        self._last_change = max((seq for _, seq in changes), default=last_change)
        return bool(changes)

    def forget_changes(self) -> None:
        """Delete changes so old that every engine has read them."""
        oldest = self._last_change - KEPT_CHANGES
        with self._store.begin() as session:
            session.execute(delete(RouteChangeRow).where(RouteChangeRow.seq < oldest))

    def _apply(self, rows: Rows, names: Collection[str], *, is_new: bool) -> None:
        """Make the router agree with the rows of some models.

        Args:
            rows: All rows of the models.
            names: The models, those without rows among them.
            is_new: Whether versions that were not served before have just become READY: they are loaded.
        """
        defaults = {row.name: row.default_version for row in rows.models}
        ready = [row for row in rows.versions if row.state == VersionState.READY or is_damaged(row)]
        self._end_others(names, {row.seq for row in ready})
        for name in names:
            if name not in defaults:
                self._router.remove_model(name)
        for name, default in defaults.items():
            self._router.add_model(name, default)
        for row in rows.versions:
            if row not in ready:
                self._router.refuse(row.model, row.name, describe_unready(row))
        for row in sorted(ready, key=lambda row: defaults.get(row.model) != row.name):
            self._serve(row, is_new=is_new)

    def _serve(self, row: VersionRow, *, is_new: bool) -> None:
        served = self._served.get((row.model, row.name))
        self._served[row.model, row.name] = row
        if served is None:
            deployment = self._rollout.deployment(row)
            if is_new:
                deployment.supervise()
            self._router.add(row.model, row.name, deployment)
        elif served.body != row.body:
            self._router.configure(row.model, row.name, version_spec(row))

    def _end_others(self, names: Collection[str], ready: Collection[int]) -> None:
        """Serve versions of these models no more that are deleted, or were replaced under their name."""
        gone = [key for key, row in self._served.items() if key[0] in names and row.seq not in ready]
        for key in gone:
            del self._served[key]
            if (deployment := self._router.remove(*key)) is not None:
                task = asyncio.create_task(deployment.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
