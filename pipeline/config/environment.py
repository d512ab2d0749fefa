"""The base of settings from the environment: a mistake is reported by the name of its variable."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from pipeline.config.problems import show
from pipeline.errors import ConfigError


class EnvironmentSettings(BaseSettings):
    """Settings that are read once and cannot be changed.

    Raises:
        ConfigError: naming the variable, and what it says unless that may be a secret.
    """

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, type(self))) from None


def _explain(error: ValidationError, settings: type[BaseSettings]) -> str:
    parts = []
    for item in error.errors():
        name = str(item["loc"][0])
        field = settings.model_fields[name]
        message = f"{settings.model_config['env_prefix']}{name.upper()}: {item['msg']}."
        is_secret = field.annotation is SecretStr or not field.repr
        parts.append(message if is_secret else f"{message} Received: {show(item['input'])}")
    return " ".join(parts)
