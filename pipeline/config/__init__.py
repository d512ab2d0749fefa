"""What a user may say: the `Classifier` YAML, its run parameters, and the settings from the environment.

One pydantic model serves the YAML, the Airflow trigger form, the REST conf and the command line, so they
cannot disagree. Unknown keys are errors everywhere.
"""

from pipeline.config.classifier import Classifier
from pipeline.config.dataset import DatasetConfig, SourceConfig, SplitConfig
from pipeline.config.expect import Action, ExpectConfig
from pipeline.config.files import absolute_uri, classifier_files, find_classifier, read_classifier
from pipeline.config.gate import GateConfig, Limit, MetricName, SliceRule
from pipeline.config.model import HeadConfig, ModelConfig
from pipeline.config.params import RUN_PARAMS, parameter_schema, parameter_value, with_params
from pipeline.config.settings import PROJECT_ROOT, SHIPPED_CLASSIFIERS, Settings

__all__ = [
    "PROJECT_ROOT",
    "RUN_PARAMS",
    "SHIPPED_CLASSIFIERS",
    "Action",
    "Classifier",
    "DatasetConfig",
    "ExpectConfig",
    "GateConfig",
    "HeadConfig",
    "Limit",
    "MetricName",
    "ModelConfig",
    "Settings",
    "SliceRule",
    "SourceConfig",
    "SplitConfig",
    "absolute_uri",
    "classifier_files",
    "find_classifier",
    "parameter_schema",
    "parameter_value",
    "read_classifier",
    "with_params",
]
