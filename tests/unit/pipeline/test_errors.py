from __future__ import annotations

import pickle

import pytest

from pipeline import errors


def every_error(base: type[errors.PipelineError] = errors.PipelineError) -> list[type[errors.PipelineError]]:
    return [base, *(found for child in base.__subclasses__() for found in every_error(child))]


@pytest.mark.parametrize("kind", every_error())
def test_error_survives_pickling_with_its_inputs(kind: type[errors.PipelineError]) -> None:
    error = kind("what happened, how to fix it", path="a.jpg", index=3)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "what happened, how to fix it"
    assert copy.path == "a.jpg"
    assert copy.index == 3


def test_every_error_is_drawn_in_the_module_docstring() -> None:
    drawn = (errors.__doc__ or "").replace("(", " ").split()
    ours = [kind.__name__ for kind in every_error() if kind.__module__ == errors.__name__]
    assert [name for name in ours if name not in drawn] == []


def test_only_storage_what_does_not_answer_and_failed_jobs_are_transient() -> None:
    transient = {kind.__name__ for kind in every_error() if kind.transient}
    assert transient == {"JobFailed", "StorageError", "PlatformUnavailable", "StackUnavailable"}
