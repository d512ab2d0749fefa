"""One engine: its parts, its start and its stop."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.auth import Tokens, token_file
from pipeline.engine.backends import Backend
from pipeline.engine.backends.local import LocalBackend
from pipeline.engine.database import Database
from pipeline.engine.home import home_id, state_directory
from pipeline.engine.jobs.batch import BatchPredictor
from pipeline.engine.jobs.jobs import Jobs
from pipeline.engine.jobs.runner import JobRunner, Kind
from pipeline.engine.lease import Lease
from pipeline.engine.member import Member
from pipeline.engine.models.feedback import FeedbackFiles
from pipeline.engine.models.models import Models
from pipeline.engine.models.operations import Operations, OperationType, Work
from pipeline.engine.models.reader_tokens import ReaderTokens, TokenFile, TokenTable
from pipeline.engine.models.registry import Registry, check_rows
from pipeline.engine.models.resources import Resources
from pipeline.engine.models.rollout import DeploymentConfig, Rollout
from pipeline.engine.models.routes import Routes
from pipeline.engine.models.versions import Versions
from pipeline.engine.quotas import Quotas
from pipeline.engine.runtimes import read_aliases
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.limits import RequestLimits, WorkerLimits
from pipeline.engine.serving.pool import ProcessPool, WorkerPool
from pipeline.engine.serving.router import Router
from pipeline.engine.settings import EngineSettings
from pipeline.engine.store import Store
from pipeline.engine.telemetry.metrics import Metrics
from pipeline.engine.telemetry.request_log import RequestLog
from pipeline.engine.telemetry.traffic import Traffic
from pipeline.errors import ConfigError, FailedPrecondition, NotFound
from pipeline.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """The parts of an engine that tests replace.

    Args:
        home: `GRAFT_HOME`; the engine's state is under `engine/` in it.
        database: Where its database is.
        project: The one project it serves.
        workspace: The bucket that versions are copied to.
        storage: Reads and writes `gs://`.
        backend: Runs training jobs.
        pool: Loads models.
        address: Where other engines of the database reach this one.
        replica: Its number among the engines of the home.
        may_lead: Whether it may change a database that it shares with others.
    """

    home: Path
    database: Database
    project: str
    workspace: str
    storage: Storage
    backend: Backend
    pool: WorkerPool
    address: str = ""
    replica: int = 0
    may_lead: bool = True

    @property
    def state(self) -> Path:
        """Where its own files are."""
        return state_directory(self.home, self.replica)


def _backend(
    home: Path, storage: Storage, settings: EngineSettings, workspace: str, *, is_shared: bool
) -> Backend:
    if settings.backend == "local":
        local = LocalBackend(home, storage, settings, workspace=workspace)
        if not is_shared or storage.is_directory(workspace):
            return local
        from pipeline.engine.backends.kept import KeptBackend  # which one machine spares

        return KeptBackend(local, storage, workspace=workspace, log_bytes=settings.job_log_bytes)
    if not settings.ray_address:
        raise ConfigError("GRAFT_ENGINE_BACKEND=ray: name the cluster in GRAFT_ENGINE_RAY_ADDRESS.")
    from pipeline.engine.backends.ray.backend import RayBackend  # imports httpx, which one machine spares
    from pipeline.engine.backends.ray.jobs_api import RayJobs

    ray = RayJobs(settings.ray_address, settings.ray_token_file)
    ray.headers()  # a token that cannot be read is said now, not by the first job
    return RayBackend(storage, settings, workspace=workspace, ray=ray)


def local_parts(
    home: Path,
    *,
    database: Database,
    project: str,
    workspace: str,
    storage: Storage,
    settings: EngineSettings,
    address: str = "",
    replica: int = 0,
    may_lead: bool = True,
) -> EngineParts:
    """Return the parts of an engine that predicts, and by default trains, on this machine."""
    return EngineParts(
        home=home,
        database=database,
        project=project,
        workspace=workspace,
        storage=storage,
        backend=_backend(home, storage, settings, workspace, is_shared=database.is_shared),
        pool=ProcessPool(
            state_directory(home, replica) / "logs",
            start_seconds=settings.worker_start_seconds,
            sandbox=Sandbox.detect(settings.sandbox),
            trunk_processes=settings.num_trunk_processes,
            idle_seconds=settings.idle_seconds,
            limits=WorkerLimits(
                threads=settings.num_trunk_threads,
                max_batch=settings.max_batch,
                stuck_seconds=settings.predict_deadline_seconds,
                max_instances=settings.max_instances,
                max_picture_bytes=settings.max_picture_bytes,
                max_picture_pixels=settings.max_picture_pixels,
                allowed_ops=settings.allow_model_ops,
                head_bytes=settings.head_bytes,
                feature_bytes=settings.feature_bytes,
            ),
        ),
        address=settings.address or address,
        replica=replica,
        may_lead=may_lead,
    )


def _deployment_config(parts: EngineParts, settings: EngineSettings) -> DeploymentConfig:
    return DeploymentConfig(
        workspace=parts.workspace,
        cache=parts.state / "models",
        limits=RequestLimits(
            wait_seconds=settings.predict_wait_seconds,
            deadline_seconds=settings.predict_deadline_seconds,
            max_requests=settings.max_requests,
            max_bytes=settings.max_request_bytes,
            chunk_seconds=settings.batch_chunk_seconds,
            idle_seconds=settings.idle_seconds,
        ),
    )


class Engine:
    """ML Engine v1 for one project.

    Args:
        parts: The parts that tests replace.
        settings: Its limits.
    """

    def __init__(self, parts: EngineParts, settings: EngineSettings) -> None:
        self.project = parts.project
        self._pool = parts.pool
        self.settings = settings
        self.quotas = Quotas(
            {
                "jobs.create": settings.job_creations_per_minute,
                "management": settings.requests_per_minute,
                "predict": settings.predictions_per_minute,
                "feedback": settings.feedback_per_minute,
            }
        )
        self.tokens = Tokens.read(token_file(parts.home))
        self.store = store = Store(parts.database)
        file = TokenFile(path=parts.home / "engine" / "reader_tokens.json")
        self.reader_tokens = ReaderTokens(TokenTable(store) if store.is_shared else file)
        self._lease = Lease(store, parts.home, parts.address) if store.is_shared else None
        self.store = store.fenced(self._lease)
        if self._lease is None:
            check_rows(store)
        self.router = Router(num_warm=settings.warm_versions)
        self.traffic = Traffic(parts.state / "traffic.json")
        self.metrics = Metrics(self.store, self.router, Sandbox.detect(settings.sandbox), self.traffic)
        self.request_log = RequestLog(parts.storage, parts.workspace, seconds=settings.request_log_seconds)
        self.operations = Operations(self.store, parts.project)
        self.feedback = FeedbackFiles(
            parts.storage,
            f"{parts.workspace}/feedback",
            max_pictures=settings.max_feedback,
            max_picture_bytes=settings.max_picture_bytes,
        )
        self._set_up_models(parts)
        self._set_up_jobs(parts)

    def _set_up_models(self, parts: EngineParts) -> None:
        settings, resources = self.settings, Resources(parts.project, self.router)
        self.models = Models(
            self.store,
            resources,
            self.operations,
            self.router,
            self.reader_tokens,
            max_models=settings.max_models,
        )
        config = _deployment_config(parts, settings)
        self.rollout = Rollout(
            self.store, parts.storage, resources, self.operations, self.router, parts.pool, config
        )
        self.routes = Routes(self.store, self.router, self.rollout)
        self.registry = Registry(self.store, parts.storage, self.rollout.files)
        self.operations.before_end = self.registry.settle
        self.versions = Versions(
            self.store, parts.storage, resources, self.operations, self.router, self.rollout, settings
        )
        self.member: Member | None = None
        if self._lease is not None:
            self.member = Member(
                self._lease,
                self.routes,
                self.reader_tokens,
                lead=self._lead,
                save=self.versions.save_uses,
                may_lead=parts.may_lead,
            )

    def _set_up_jobs(self, parts: EngineParts) -> None:
        scratch = parts.state / "scratch"
        predictor = BatchPredictor(
            parts.storage,
            self.router,
            parts.pool,
            project=parts.project,
            scratch=scratch,
            limits=_deployment_config(parts, self.settings).limits,
        )
        slots = {Kind.TRAINING: self.settings.training_slots, Kind.PREDICTION: self.settings.prediction_slots}
        home = home_id(parts.home) if self.store.is_shared else ""
        self.runner = JobRunner(self.store, parts.backend, predictor, slots, home=home)
        self.jobs = Jobs(
            self.store,
            parts.project,
            parts.workspace,
            parts.backend,
            self.runner,
            aliases=read_aliases(self.settings.runtime_aliases),
        )

    def catch_up(self) -> bool:
        """Read the routes that the leader changed; return whether any did. Only a follower has to."""
        return self.member is not None and self.member.catch_up()

    def find_deployment(self, model: str, version: str | None) -> Deployment:
        """Return what serves a version, or the default of a model.

        Raises:
            NotFound: if there is no such model or version.
            FailedPrecondition: if the model has no version yet, or the version is not READY.
        """
        try:
            return self.router.find(model, version)
        except (NotFound, FailedPrecondition):
            if not self.catch_up():
                raise
        return self.router.find(model, version)

    async def start(self) -> None:
        """Serve the READY versions, and resume open operations and jobs."""
        self.rollout.sweep()
        self.routes.load()
        if self.member is not None:
            self.member.start()
        else:
            self._resume()
        self.request_log.start()
        self.traffic.start()
        log.info("The engine of project %s has started.", self.project)

    def _lead(self) -> None:
        """Do from now on what only one engine of a database does."""
        self.store.check_revision()
        check_rows(self.store)
        self.routes.load()
        self.routes.forget_changes()
        self.reader_tokens.refresh()
        self._resume()

    def _resume(self) -> None:
        work: dict[str, Work] = {
            OperationType.CREATE_VERSION: self.rollout.finish_creation,
            OperationType.DELETE_VERSION: self.rollout.finish_deletion,
        }
        for operation in self.operations.unfinished():
            self.operations.spawn(operation, work[operation.kind])
        self.registry.start()
        self.runner.start()

    async def stop(self) -> None:
        """Stop the workers; training jobs run on and are re-attached at the next start."""
        if self.member is not None:
            await self.member.stop_following()
        await self.runner.stop()
        await self.operations.stop()
        await self.registry.stop()
        self.versions.save_uses()
        await self.router.close()
        await self._pool.close()
        await self.request_log.stop()
        await self.traffic.stop()
        if self.member is not None:
            await self.member.stop()
        self.store.close()
