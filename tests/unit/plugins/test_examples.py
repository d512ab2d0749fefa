"""The example DAGs name nothing that Google's operators did not have: moving one changes its imports only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
COMMON = {"task_id", "project_id", "gcp_conn_id", "impersonation_chain"}
OLD = {
    "MLEngineStartTrainingJobOperator": {
        *("job_id", "region", "package_uris", "training_python_module", "training_args", "scale_tier"),
        *("master_type", "master_config", "runtime_version", "python_version", "job_dir", "service_account"),
        *("hyperparameters", "labels", "mode", "cancel_on_kill", "deferrable"),
    },
    "MLEngineCreateModelOperator": {"model"},
    "MLEngineGetModelOperator": {"model_name"},
    "MLEngineDeleteModelOperator": {"model_name", "delete_contents"},
    "MLEngineCreateVersionOperator": {"model_name", "version"},
    "MLEngineSetDefaultVersionOperator": {"model_name", "version_name"},
    "MLEngineListVersionsOperator": {"model_name"},
    "MLEngineDeleteVersionOperator": {"model_name", "version_name"},
    "create_evaluate_ops": {
        *(
            "task_prefix",
            "data_format",
            "input_paths",
            "prediction_path",
            "metric_fn_and_keys",
            "validate_fn",
        ),
        *("batch_prediction_job_id", "region", "dataflow_options", "model_uri", "model_name", "version_name"),
        *("dag", "py_interpreter"),
    },
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("mlengine_*.py")), ids=lambda path: path.stem)
def test_example_uses_old_names_and_arguments_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    ours = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("graft", "pipeline"))
        for alias in node.names
    ]
    assert ours
    assert set(ours) <= set(OLD)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in OLD:
            given = {keyword.arg for keyword in call.keywords}
            assert given <= OLD[call.func.id] | COMMON, call.func.id


def test_every_old_argument_is_one_of_ours() -> None:
    import inspect

    from graft.operators import mlengine
    from graft.operators.base import GraftOperator
    from graft.operators.jobs import MLEngineJobOperator
    from graft.operators.mlengine.jobs import V1JobOperator
    from graft.operators.mlengine.versions import V1VersionOperator

    shared = {
        name
        for base in (GraftOperator, MLEngineJobOperator, V1JobOperator, V1VersionOperator)
        for name in inspect.signature(base.__init__).parameters
    }
    for name, arguments in OLD.items():
        target = getattr(mlengine, name)
        known = set(inspect.signature(target if name.islower() else target.__init__).parameters)
        assert arguments <= known | shared, name
