"""The folders of a workspace: what lies in each, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from pipeline.artifacts import model_files
from pipeline.storage import Storage

MAX_FOLDER_BYTES = 240  # file systems end at 255
# What may not stand in the name of a folder; a leading dot would hide it from `folder` sources.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f%/\\]|^\.")


def encode_label(label: str) -> str:
    """Return the name of a label's folder: the label, with percent codes where it could be no file name."""
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", label)


@dataclass(frozen=True, slots=True)
class Folder:
    """A place in a bucket.

    Args:
        storage: Reads and writes URIs.
        uri: Of the folder, without a trailing slash.
    """

    storage: Storage
    uri: str

    @property
    def name(self) -> str:
        """The last part of its URI."""
        return self.uri.rpartition("/")[2]

    def file(self, name: str) -> str:
        """Return the URI of an object in the folder."""
        return f"{self.uri}/{name}"


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that jobs share, and the record that tells its digest.

    Jobs replace nothing of what they share. One that finds a damaged file leaves another copy, under the next
    number.

    Args:
        storage: Reads and writes URIs.
        stem: URI of both, without what tells them apart.
        suffix: Of the file's name.
    """

    storage: Storage
    stem: str
    suffix: str

    def data(self, copy: int) -> str:
        """Return the URI of a copy of the file, from 0."""
        return f"{self._numbered(copy)}{self.suffix}"

    def record(self, copy: int) -> str:
        """Return the URI of a copy's record; it is written last."""
        return f"{self._numbered(copy)}.json"

    def _numbered(self, copy: int) -> str:
        return f"{self.stem}.{copy}" if copy else self.stem


class DatasetFolder(Folder):
    """`datasets/<name>`: a classifier's dataset versions, and what carries over from one to the next."""

    __slots__ = ()

    @property
    def latest(self) -> str:
        """The pointer to the latest version."""
        return self.file("latest.json")

    @property
    def split_registry(self) -> str:
        """Which picture was ever on which side of the split."""
        return self.file("splits.jsonl")

    @property
    def decisions(self) -> str:
        """What people decided about single pictures."""
        return self.file("decisions.csv")

    @property
    def decision_events(self) -> str:
        """The folder of who decided what and when, with a trailing slash."""
        return self.file("decision_events/")

    def decision_event(self, id: str) -> str:
        """Return the URI of an event: what a person decided at once."""
        return f"{self.decision_events}{id}.json"

    @property
    def takedowns(self) -> str:
        """Pictures that must never come back."""
        return self.file("takedowns.jsonl")

    @property
    def journal(self) -> str:
        """What an unfinished fetch has done so far."""
        return self.file("journal")

    @property
    def fetch_indexes(self) -> str:
        """The folder of the fetch indexes, with a trailing slash."""
        return self.file("fetched/")

    def fetch_index(self, chunk: int) -> str:
        """Return the URI of one chunk's fetch index."""
        return self.file(f"fetched/{chunk:05d}.jsonl")

    def version(self, version: str) -> DatasetVersionFolder:
        """Return the folder of a dataset version."""
        return DatasetVersionFolder(self.storage, self.file(version))


class DatasetVersionFolder(Folder):
    """`datasets/<name>/<version>`: complete once `dataset.json` is there."""

    __slots__ = ()

    @property
    def info(self) -> str:
        """The version as a whole; written last."""
        return self.file("dataset.json")

    @property
    def manifest(self) -> str:
        """One row for each picture."""
        return self.file("manifest.jsonl")

    @property
    def decisions(self) -> str:
        """The decisions that were applied."""
        return self.file("decisions.csv")

    @property
    def croissant(self) -> str:
        """The Croissant 1.0 description."""
        return self.file("croissant.json")

    @property
    def attribution(self) -> str:
        """Creators and licences."""
        return self.file("ATTRIBUTION.md")

    @property
    def page(self) -> str:
        """The dataset card as a page."""
        return self.file("card.html")

    @property
    def card(self) -> str:
        """The dataset card as Markdown."""
        return self.file("README.md")


class JobDirectory(Folder):
    """`jobs/<id>`: what a job writes, and what is written about it."""

    __slots__ = ()

    @property
    def model(self) -> ModelDirectory:
        """The SavedModel that a training job exports."""
        return ModelDirectory(self.storage, self.file("model"))

    @property
    def training(self) -> str:
        """The record of a training job."""
        return self.file("training.json")

    @property
    def comparison(self) -> str:
        """The record of a comparison job."""
        return self.file("comparison.json")

    @property
    def held_out(self) -> str:
        """The answers of a comparison job for the pictures that were left out."""
        return self.file("held_out.npz")

    @property
    def fold_answers(self) -> str:
        """The answers of a training job's cross-validation for the pictures that were left out."""
        return self.file("fold_answers.npz")

    @property
    def tuning(self) -> str:
        """What a study found, in the directory of its hyperparameter tuning job."""
        return self.file("tuning.json")

    @property
    def trial(self) -> str:
        """What a trial did, in its own directory."""
        return self.file("trial.json")

    def run(self, number: int) -> JobDirectory:
        """Return the sub-directory of a trial."""
        return JobDirectory(self.storage, self.file(str(number)))

    @property
    def checkpoints(self) -> str:
        """The folder of what is left of a fine-tuning after each epoch, with a slash."""
        return self.file("finetuning/checkpoints/")

    def checkpoint(self, stage: str) -> str:
        """Return the URI of what is left of one training of a fine-tuning after each epoch."""
        return f"{self.checkpoints}{stage}.npz"

    def finetuned_weights(self, digest: str) -> str:
        """Return the URI of the weights that a fine-tuning made, by their SHA-256."""
        return self.file(f"finetuning/{digest}")

    def finetuned_digest(self, uri: str) -> str | None:
        """Return the SHA-256 of which a URI is the fine-tuned weights; None if it is something else."""
        digest = uri.rpartition("/")[2]
        return digest if uri == self.finetuned_weights(digest) else None

    @property
    def predictions(self) -> str:
        """The output folder of a batch prediction job."""
        return self.file("predictions")

    @property
    def evaluation(self) -> str:
        """The evaluation that a batch prediction job was made for."""
        return self.file("evaluation.json")

    @property
    def report(self) -> str:
        """The evaluation as a page."""
        return self.file("report.html")


class ModelDirectory(Folder):
    """A SavedModel with Graft's records beside it, in `graft/`."""

    __slots__ = ()

    @property
    def job(self) -> JobDirectory:
        """The directory of the job that exported the model; of a model in `jobs/` only."""
        return JobDirectory(self.storage, self.uri.removesuffix("/model"))

    @property
    def labels(self) -> str:
        """The label of class 0, of class 1, and so on."""
        return self.file(model_files.LABELS)

    @property
    def lineage(self) -> str:
        """What the version is made of."""
        return self.file(model_files.LINEAGE)

    @property
    def evaluation(self) -> str:
        """The evaluation that let the version through the gate."""
        return self.file(model_files.EVALUATION)

    @property
    def report(self) -> str:
        """The evaluation as a page."""
        return self.file(model_files.REPORT)

    @property
    def card(self) -> str:
        """The model card."""
        return self.file(model_files.CARD)

    @property
    def head(self) -> str:
        """The arrays of a dense head."""
        return self.file(model_files.HEAD)

    @property
    def tflite_manifest(self) -> str:
        """The manifest of the TFLite export, with the pixels that the network is fed."""
        return self.file(model_files.TFLITE_MANIFEST)


class FeatureFolder(Folder):
    """`features/<weights>/<pixels>`: pooled features of one network on one pixel specification."""

    __slots__ = ()

    @property
    def shards(self) -> str:
        """The folder itself, with a trailing slash."""
        return self.file("")

    def shard(self, digest: str) -> str:
        """Return the URI of the features of a pack shard, by the shard's digest."""
        return self.file(f"{digest}.npz")


class FeedbackFolder(Folder):
    """`feedback/<classifier>`: each picture under its id, beside its record."""

    __slots__ = ()

    def picture(self, id: str) -> str:
        """Return the URI of a picture."""
        return self.file(id)

    def record(self, id: str) -> str:
        """Return the URI of what is said of a picture."""
        return self.file(f"{id}.json")


class UploadFolder(Folder):
    """`uploads/<classifier>`: a folder for each label, with pictures by digest, and who uploaded them."""

    __slots__ = ()

    def picture(self, label: str, digest: str, suffix: str) -> str:
        """Return the URI of a picture file."""
        return self.file(f"{encode_label(label)}/{digest}.{suffix}")

    @property
    def records(self) -> str:
        """The folder of the records, with a trailing slash; no label begins with a dot here."""
        return self.file(".records/")

    def record(self, id: str) -> str:
        """Return the URI of the record of one upload."""
        return self.file(f".records/{id}.json")


class RunFolder(Folder):
    """`runs/<classifier>/<run>`: what one run of the DAG says about itself."""

    __slots__ = ()

    @property
    def summary(self) -> str:
        """How the run ended."""
        return self.file("summary.json")

    @property
    def evaluated(self) -> str:
        """Where the report is and what the gate decided, before the run has ended."""
        return self.file("evaluated.json")


class ClassifierFolder(Folder):
    """`classifiers/<name>`: the history of deployments, and locks."""

    __slots__ = ()

    @property
    def history(self) -> str:
        """The folder of history events, with a trailing slash."""
        return self.file("history/")

    @property
    def comparison(self) -> str:
        """The last model comparison."""
        return self.file("comparison.json")

    @property
    def comparison_page(self) -> str:
        """The last model comparison as a page."""
        return self.file("comparison.html")

    @property
    def comparison_yaml(self) -> str:
        """The `model` section that the last model comparison recommends, if it is not the present one."""
        return self.file("comparison.yaml")

    @property
    def demo_links(self) -> str:
        """The folder of the links to its demo page, with a trailing slash."""
        return self.file("demo_links/")

    def demo_link(self, id: str) -> str:
        """Return the URI of a link to its demo page: who made it, and the digest of its key."""
        return self.file(f"demo_links/{quote(id, safe='')}.json")

    def lock(self, subject: str) -> str:
        """Return the folder of a lock."""
        return self.file(subject)

    def rollback(self, run_id: str) -> str:
        """Return the URI of the plan that a rollback's retry reads again."""
        return self.file(f"rollbacks/{quote(run_id, safe='')}.json")
