from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pipeline.engine.backends.ray.backend import RayBackend
from pipeline.engine.backends.ray.jobs_api import RayJobs
from pipeline.engine.settings import EngineSettings
from pipeline.errors import ConfigError, FailedPrecondition, Internal, InvalidArgument, Unavailable
from pipeline.storage import Storage
from tests.fakes.ray import ADDRESS, TOKEN, FakeRay


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def answering(status: int, text: str, token: Path) -> RayJobs:
    return RayJobs(ADDRESS, token, transport=httpx.MockTransport(lambda _: httpx.Response(status, text=text)))


def test_a_token_is_read_anew_for_each_request_and_a_wrong_one_names_its_file(token: Path) -> None:
    ray = RayJobs(ADDRESS, token, transport=FakeRay().transport)
    assert asyncio.run(ray.list_jobs()) == {}
    token.write_text("an-old-one")
    with pytest.raises(FailedPrecondition, match=rf"refused the token .*{token}; status 403"):
        asyncio.run(ray.list_jobs())
    token.unlink()
    with pytest.raises(ConfigError, match=r"GRAFT_ENGINE_RAY_TOKEN_FILE: .* cannot be read"):
        asyncio.run(ray.list_jobs())


@pytest.mark.parametrize("text", ["", "\n", "two\nlines"])
def test_a_file_without_a_token_is_refused(token: Path, text: str) -> None:
    token.write_text(text)
    with pytest.raises(ConfigError, match="holds no token"):
        RayJobs(ADDRESS, token).headers()


def test_a_job_that_ray_refuses_fails_with_its_words(token: Path) -> None:
    with pytest.raises(Internal, match=r"did not take j1-1 \(status 400\): no such resource"):
        asyncio.run(answering(400, "no such resource", token).submit("j1-1", "key", {}))


def test_a_ray_that_has_no_agent_yet_is_asked_again_later(token: Path) -> None:
    with pytest.raises(Unavailable, match="No available agent"):
        asyncio.run(answering(500, "No available agent to submit job", token).submit("j1-1", "key", {}))


class TestBuckets:
    def backend(self, tmp_path: Path, **settings: bool) -> RayBackend:
        storage = Storage({"graft": tmp_path / "graft"})
        ray = RayJobs(ADDRESS, None)
        return RayBackend(storage, EngineSettings(**settings), workspace="gs://graft", ray=ray)

    def test_a_directory_is_refused_as_the_workspace(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"gs://graft is the directory .*GRAFT_ENGINE_RAY_SHARES_DIR"):
            self.backend(tmp_path)

    def test_a_directory_that_all_nodes_have_is_taken(self, tmp_path: Path) -> None:
        self.backend(tmp_path, ray_shares_directories=True)

    def test_a_directory_is_refused_in_the_arguments_of_a_job(self, tmp_path: Path) -> None:
        storage = Storage({"pictures": tmp_path})
        backend = RayBackend(storage, EngineSettings(), workspace="gs://remote", ray=RayJobs(ADDRESS, None))
        with pytest.raises(InvalidArgument, match="gs://pictures is the directory"):
            backend._check_bucket("--data=gs://pictures/a", InvalidArgument)


def test_the_engine_imports_no_ray() -> None:
    code = (
        "import sys; import pipeline.engine.engine, pipeline.engine.backends.ray.node; "
        "sys.exit([name for name in sys.modules if name.partition('.')[0] == 'ray'] or None)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_engine_of_one_machine_imports_no_http_client() -> None:
    code = "import sys, pipeline.engine.__main__; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
