"""The operators of ML Engine v1 by the names and arguments that they had in Google's provider.

A DAG written for them moves by its import and its connection:

    from airflow.providers.google.cloud.operators.mlengine import MLEngineStartTrainingJobOperator
    from graft.operators.mlengine import MLEngineStartTrainingJobOperator
"""

from __future__ import annotations

from graft.operators.mlengine.evaluate import create_evaluate_ops
from graft.operators.mlengine.jobs import (
    MLEngineStartBatchPredictionJobOperator,
    MLEngineStartTrainingJobOperator,
    MLEngineTrainingCancelJobOperator,
)
from graft.operators.mlengine.legacy import (
    MLEngineBatchPredictionOperator,
    MLEngineManageModelOperator,
    MLEngineManageVersionOperator,
    MLEngineModelOperator,
    MLEngineTrainingOperator,
    MLEngineVersionOperator,
)
from graft.operators.mlengine.models import (
    MLEngineCreateModelOperator,
    MLEngineDeleteModelOperator,
    MLEngineGetModelOperator,
)
from graft.operators.mlengine.predict import MLEngineOnlinePredictOperator
from graft.operators.mlengine.versions import (
    MLEngineCreateVersionOperator,
    MLEngineDeleteVersionOperator,
    MLEngineListVersionsOperator,
    MLEngineSetDefaultVersionOperator,
)

__all__ = [
    "MLEngineBatchPredictionOperator",
    "MLEngineCreateModelOperator",
    "MLEngineCreateVersionOperator",
    "MLEngineDeleteModelOperator",
    "MLEngineDeleteVersionOperator",
    "MLEngineGetModelOperator",
    "MLEngineListVersionsOperator",
    "MLEngineManageModelOperator",
    "MLEngineManageVersionOperator",
    "MLEngineModelOperator",
    "MLEngineOnlinePredictOperator",
    "MLEngineSetDefaultVersionOperator",
    "MLEngineStartBatchPredictionJobOperator",
    "MLEngineStartTrainingJobOperator",
    "MLEngineTrainingCancelJobOperator",
    "MLEngineTrainingOperator",
    "MLEngineVersionOperator",
    "create_evaluate_ops",
]
