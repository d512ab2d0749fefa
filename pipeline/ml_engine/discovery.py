"""The types of Google's discovery client of `ml` v1, which makes its methods at run time."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Protocol, TypeAlias, TypedDict, TypeVar

from pipeline.ml_engine.resources import Job, Model, Operation, Version
from pipeline.types import JsonObject, JsonValue

ResourceT = TypeVar("ResourceT")
AnswerT = TypeVar("AnswerT")
AnswerT_co = TypeVar("AnswerT_co", covariant=True)

Page: TypeAlias = Mapping[str, Sequence[AnswerT]]  # resources under the name of their collection


class Predictions(TypedDict, total=False):
    """The answer to `:predict`."""

    predictions: list[JsonValue]
    error: str


class Request(Protocol[AnswerT_co]):
    """A request that has not been sent."""

    headers: MutableMapping[str, str]
    uri: str

    def execute(self, *, num_retries: int) -> AnswerT_co:
        """Send it."""


class Collection(Protocol[ResourceT]):
    """The methods that every collection has."""

    def get(self, *, name: str) -> Request[ResourceT]:
        """Return one resource."""

    def list(self, *, parent: str, pageSize: int) -> Request[Page[ResourceT]]:
        """Return the first page."""

    def list_next(
        self, request: Request[Page[ResourceT]], page: Page[ResourceT]
    ) -> Request[Page[ResourceT]] | None:
        """Return the request of the next page, None after the last."""


class Jobs(Collection[Job], Protocol):
    """`projects.jobs`."""

    def create(self, *, parent: str, body: Job) -> Request[Job]:
        """Submit a job."""

    def cancel(self, *, name: str, body: JsonObject) -> Request[JsonObject]:
        """Cancel a job."""


class Versions(Collection[Version], Protocol):
    """`projects.models.versions`."""

    def create(self, *, parent: str, body: Version) -> Request[Operation]:
        """Deploy a version."""

    def delete(self, *, name: str) -> Request[Operation]:
        """Delete a version."""

    def patch(self, *, name: str, updateMask: str, body: JsonObject) -> Request[Operation]:
        """Change fields of a version."""

    def setDefault(self, *, name: str, body: JsonObject) -> Request[Version]:
        """Make a version the default."""


class Models(Collection[Model], Protocol):
    """`projects.models`."""

    def create(self, *, parent: str, body: Model) -> Request[Model]:
        """Create a model."""

    def delete(self, *, name: str) -> Request[Operation]:
        """Delete a model."""

    def versions(self) -> Versions:
        """Return the collection of versions."""


class Operations(Protocol):
    """`projects.operations`."""

    def get(self, *, name: str) -> Request[Operation]:
        """Return an operation."""


class Projects(Protocol):
    """`projects`, with the collections below it."""

    def jobs(self) -> Jobs:
        """Return the collection of jobs."""

    def models(self) -> Models:
        """Return the collection of models."""

    def operations(self) -> Operations:
        """Return the collection of operations."""

    def predict(self, *, name: str, body: JsonObject) -> Request[Predictions]:
        """Predict online."""
