"""What a user may say: the `Classifier` YAML, its run parameters, and the settings from the environment.

One pydantic model serves the YAML, the Airflow trigger form, the REST conf and the command line, so they
cannot disagree. Unknown keys are errors everywhere.
"""

from pipeline.config.classifier import Classifier
from pipeline.config.dataset import DatasetConfig, FetchConfig, SplitConfig
from pipeline.config.deploy import DeployConfig
from pipeline.config.expect import Action, ExpectConfig
from pipeline.config.files import absolute_uri, classifier_files, find_classifier, read_classifier
from pipeline.config.gate import GateConfig, Limit, MetricName, SliceRule
from pipeline.config.model import AugmentationConfig, EarlyStoppingConfig, HeadConfig, ModelConfig
from pipeline.config.notify import NotifyConfig
from pipeline.config.params import RUN_PARAMS, full_name, parameter_schema, parameter_value, with_params
from pipeline.config.retrain import ON_DATASET_CHANGE, RetrainConfig
from pipeline.config.serving import ServingConfig
from pipeline.config.settings import PROJECT_ROOT, SHIPPED_CLASSIFIERS, SHIPPED_DAGS, Settings
from pipeline.config.sources import SOURCE_SECTIONS, SourceConfig, SourceSection

__all__ = [
    "AugmentationConfig",
    "EarlyStoppingConfig",
    "ServingConfig",
    "PROJECT_ROOT",
    "RUN_PARAMS",
    "SOURCE_SECTIONS",
    "SHIPPED_CLASSIFIERS",
    "SHIPPED_DAGS",
    "Action",
    "Classifier",
    "ON_DATASET_CHANGE",
    "DatasetConfig",
    "DeployConfig",
    "ExpectConfig",
    "FetchConfig",
    "GateConfig",
    "HeadConfig",
    "Limit",
    "MetricName",
    "NotifyConfig",
    "RetrainConfig",
    "ModelConfig",
    "Settings",
    "SliceRule",
    "SourceConfig",
    "SourceSection",
    "SplitConfig",
    "absolute_uri",
    "classifier_files",
    "find_classifier",
    "full_name",
    "parameter_schema",
    "parameter_value",
    "read_classifier",
    "with_params",
]
