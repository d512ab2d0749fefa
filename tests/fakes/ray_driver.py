"""Runs a program of Ray's environment with a small Ray of this process: actors are objects with threads.

`python ray_driver.py [-I] PROGRAM`: placement groups always have room, all nodes are 127.0.0.1.
"""

from __future__ import annotations

import concurrent.futures
import runpy
import sys
import types
from collections.abc import Callable
from typing import Any


class _Method:
    def __init__(self, pool: concurrent.futures.Executor, function: Callable[..., Any]) -> None:
        self._pool = pool
        self._function = function

    def remote(self, *args: Any) -> concurrent.futures.Future[Any]:
        return self._pool.submit(self._function, *args)


class _Actor:
    def __init__(self, target: Any) -> None:
        self._target = target
        self._pool = concurrent.futures.ThreadPoolExecutor()

    def __getattr__(self, name: str) -> _Method:
        return _Method(self._pool, getattr(self._target, name))


class _ActorClass:
    def __init__(self, kind: type) -> None:
        self._kind = kind

    def options(self, **_: Any) -> _ActorClass:
        return self

    def remote(self, *args: Any) -> _Actor:
        return _Actor(self._kind(*args))


def _get(result: Any) -> Any:
    return [each.result() for each in result] if isinstance(result, list) else result.result()


def _wait(results: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
    first = concurrent.futures.FIRST_COMPLETED
    done, rest = concurrent.futures.wait(results, timeout, first)
    return list(done), list(rest)


def _modules() -> dict[str, types.ModuleType]:
    names = ("ray", "ray.util", "ray.util.placement_group", "ray.util.scheduling_strategies")
    modules = {name: types.ModuleType(name) for name in names}
    group = types.SimpleNamespace(wait=lambda seconds: True)
    vars(modules["ray"]).update(
        init=lambda **_: None,
        remote=lambda **_: _ActorClass,
        get=_get,
        wait=_wait,
        exceptions=types.SimpleNamespace(RayError=ConnectionError),
        util=modules["ray.util"],
    )
    vars(modules["ray.util"]).update(get_node_ip_address=lambda: "127.0.0.1")
    vars(modules["ray.util.placement_group"]).update(placement_group=lambda bundles, strategy: group)
    strategy = {"PlacementGroupSchedulingStrategy": lambda group, **_: group}
    vars(modules["ray.util.scheduling_strategies"]).update(strategy)
    return modules


if __name__ == "__main__":
    sys.modules |= _modules()
    runpy.run_path(sys.argv[-1], run_name="__main__")
