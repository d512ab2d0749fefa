"""The workspace: one bucket, or a folder of one, and where everything in it lies.

No other module spells a path of the bucket. Paths inside a model directory or a job directory are properties
of `ModelDirectory` and `JobDirectory` (`folders`), because those can also lie in somebody else's bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from pipeline.artifacts import model_files
from pipeline.artifacts.folders import (
    ClassifierFolder,
    DatasetFolder,
    FeatureFolder,
    FeedbackFolder,
    JobDirectory,
    ModelDirectory,
    RunFolder,
    SharedFile,
    UploadFolder,
)
from pipeline.storage import Storage


@dataclass(frozen=True, slots=True)
class Workspace:
    """A storage and the URI below which Graft keeps its artifacts.

    Args:
        storage: Reads and writes URIs.
        uri: Of the workspace, `gs://graft` for instance, without a trailing slash.
    """

    storage: Storage
    uri: str

    def blob(self, digest: str) -> str:
        """Return the URI of a picture's original bytes, by their SHA-256."""
        return f"{self.uri}/blobs/{digest}"

    def package(self, digest: str) -> str:
        """Return the URI of a trainer package."""
        return f"{self.uri}/packages/{digest}.tar.gz"

    def head_file(self, digest: str) -> str:
        """Return the URI of a staged file that builds a custom head."""
        return f"{self.uri}/heads/{digest}.py"

    def weights(self, digest: str) -> str:
        """Return the URI of staged weights."""
        return f"{self.uri}/weights/{digest}"

    def weights_source(self, name: str) -> str:
        """Return the URI of the pointer from an original weights file to what was staged from it."""
        return f"{self.uri}/weights/sources/{name}.json"

    def network(self, digest: str) -> str:
        """Return the URI of the record of a network of the user's own, by the digest of its weights."""
        return f"{self.uri}/weights/networks/{digest}.json"

    def finetunings(self, digest: str) -> str:
        """Return the folder with the ids of the jobs that do one piece of fine-tuning, with a slash."""
        return f"{self.uri}/weights/finetunings/{digest}/"

    def dataset(self, name: str) -> DatasetFolder:
        """Return where a classifier's dataset versions and their state lie."""
        return DatasetFolder(self.storage, f"{self.uri}/datasets/{name}")

    def feedback(self, name: str) -> FeedbackFolder:
        """Return where the pictures lie whose answers were wrong, as the engine keeps them."""
        return FeedbackFolder(self.storage, f"{self.uri}/feedback/{name}")

    @property
    def request_logs(self) -> str:
        """The folder of predictions that the engine logs, with a trailing slash."""
        return f"{self.uri}/request_logs/"

    @property
    def task_logs(self) -> str:
        """The folder of the logs of Airflow's tasks, with a trailing slash; a team's stack has it."""
        return f"{self.uri}/airflow/logs/"

    def uploads(self, name: str) -> UploadFolder:
        """Return where the pictures lie that people uploaded for a classifier."""
        return UploadFolder(self.storage, f"{self.uri}/uploads/{name}")

    def pack_index(self, dataset_version: str, pixels_digest: str) -> str:
        """Return the URI of the index of a dataset version's shards, for one pixel specification."""
        return f"{self.uri}/packs/{dataset_version}/{pixels_digest}.json"

    def pack_groups(self, dataset_version: str) -> str:
        """Return the URI of the groups of a dataset version's training pictures."""
        return f"{self.uri}/packs/{dataset_version}/groups.json"

    def pack_validation(self, dataset_version: str) -> str:
        """Return the URI of the ids of a dataset version's own validation pictures."""
        return f"{self.uri}/packs/{dataset_version}/validation.json"

    def pack_shard(self, pixels_digest: str, digest: str) -> str:
        """Return the URI of a shard of decoded pixels."""
        return f"{self.uri}/packs/{pixels_digest}/{digest}.npz"

    def test_shard(self, dataset_version: str, number: int) -> str:
        """Return the URI of a shard of encoded test pictures."""
        return f"{self.uri}/tests/{dataset_version}/test-{number:05d}.jsonl"

    def features(
        self, weights_digest: str, pixels_digest: str, augmentation: str = "", *, before: str = ""
    ) -> FeatureFolder:
        """Return the cached features of one network, of the pictures as they are or altered in one way.

        Args:
            weights_digest: SHA-256 of the staged weights.
            pixels_digest: Of the pixel specification.
            augmentation: Digest of how the pictures were altered; empty if they were not.
            before: The layer whose input is cached instead; empty for the pooled features.
        """
        suffix = f"-view-{augmentation}" if augmentation else ""
        suffix += f"-before-{before}" if before else ""
        uri = f"{self.uri}/features/{weights_digest}/{pixels_digest}{suffix}"
        return FeatureFolder(self.storage, uri)

    def tflite(self, weights_digest: str, pixels_digest: str, made_by: str) -> SharedFile:
        """Return a frozen network's TFLite conversion, by the versions of what converted it."""
        stem = f"{self.uri}/light/{weights_digest}/{pixels_digest}/{made_by}"
        return SharedFile(self.storage, stem, ".tflite")

    def template(self, weights_digest: str, pixels_digest: str, key: str) -> SharedFile:
        """Return the template of SavedModels that share a graph, by the digest of what makes it."""
        stem = f"{self.uri}/templates/{weights_digest}/{pixels_digest}/{key}"
        return SharedFile(self.storage, stem, ".pb")

    def caches(self, weights_digest: str) -> tuple[str, ...]:
        """Return the folders of what is cached for one network: all of it can be made again."""
        return tuple(f"{self.uri}/{room}/{weights_digest}" for room in ("features", "light", "templates"))

    @property
    def jobs(self) -> str:
        """The folder of all jobs, with a trailing slash."""
        return f"{self.uri}/jobs/"

    def job(self, job_id: str) -> JobDirectory:
        """Return the directory of a job."""
        return JobDirectory(self.storage, f"{self.uri}/jobs/{job_id}")

    def holds(self, uri: str) -> bool:
        """Return whether a URI lies in the workspace."""
        return uri.startswith(f"{self.uri}/")

    def job_id_of(self, uri: str) -> str | None:
        """Return the id of the job whose directory a URI lies in, None if it lies in none."""
        return uri.removeprefix(self.jobs).partition("/")[0] if uri.startswith(self.jobs) else None

    def model(self, name: str, version: str) -> ModelDirectory:
        """Return the engine's own copy of a model version."""
        return ModelDirectory(self.storage, f"{self.uri}/models/{name}/{version}")

    def models(self, name: str) -> str:
        """Return the folder of a model's versions, with a trailing slash."""
        return f"{self.uri}/models/{name}/"

    def registration(self, model: str) -> str:
        """Return the URI of the engine's record of a model."""
        return f"{self.uri}/engine/models/{model}.json"

    def list_copies(self) -> dict[str, list[str]]:
        """Return the versions of each model whose files the engine has a record of, both sorted."""
        models: dict[str, list[str]] = {}
        for uri in self.storage.list_uris(f"{self.uri}/engine/versions/"):
            model, _, version = uri.removeprefix(f"{self.uri}/engine/versions/").partition("/")
            models.setdefault(model, []).append(version.removesuffix(".json"))
        return models

    def list_models(self) -> dict[str, list[str]]:
        """Return the versions of each model that has one, both sorted."""
        models: dict[str, dict[str, None]] = {}
        for uri in self.storage.list_uris(f"{self.uri}/models/"):
            model, *version = uri.removeprefix(f"{self.uri}/models/").split("/")
            if len(version) == 2 and model_files.is_model_file(version[1]):
                models.setdefault(model, {})[version[0]] = None
        return {model: list(versions) for model, versions in models.items()}

    def list_model_versions(self, name: str) -> list[str]:
        """Return the versions of a model that have a lineage in the workspace."""
        names = (uri.removeprefix(self.models(name)) for uri in self.storage.list_uris(self.models(name)))
        parts = (name.partition("/") for name in names)
        return [version for version, _, file in parts if file == model_files.LINEAGE]

    def run(self, classifier: str, run_id: str) -> RunFolder:
        """Return where a run leaves its records."""
        return RunFolder(self.storage, f"{self.uri}/runs/{classifier}/{quote(run_id, safe='')}")

    def classifier(self, name: str) -> ClassifierFolder:
        """Return where the deployments of a classifier are recorded."""
        return ClassifierFolder(self.storage, f"{self.uri}/classifiers/{name}")
