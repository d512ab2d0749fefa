from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema

from pipeline.provider import get_provider_info


def test_airflow_finds_a_provider_that_keeps_its_schema() -> None:
    points = entry_points(group="apache_airflow_provider")
    [point] = [point for point in points if point.value.startswith("pipeline.")]
    assert point.load() is get_provider_info
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_hook_that_it_names_is_ours_and_has_its_type() -> None:
    [kind] = get_provider_info()["connection-types"]
    module, _, name = kind["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (kind["connection-type"], kind["hook-name"])
