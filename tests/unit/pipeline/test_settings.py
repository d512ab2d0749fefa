from __future__ import annotations

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from pipeline.config import Settings
from pipeline.config.environment import EnvironmentSettings
from pipeline.errors import ConfigError


class Some(EnvironmentSettings):
    model_config = SettingsConfigDict(env_prefix="GRAFT_TEST_")

    number: int = 1
    password: SecretStr = Field(SecretStr(""), max_length=3)
    index: str = Field("", max_length=3, repr=False)


def test_every_mistake_is_told_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_KEEP_VERSIONS", "1")
    monkeypatch.setenv("GRAFT_KEEP_DAYS", "long")
    with pytest.raises(ConfigError) as caught:
        Settings()
    message = caught.value.message
    assert "GRAFT_KEEP_VERSIONS: Input should be greater than or equal to 2. Received: '1'" in message
    assert "GRAFT_KEEP_DAYS: Input should be a valid number" in message


@pytest.mark.parametrize("name", ["PASSWORD", "INDEX"])
def test_a_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"GRAFT_TEST_{name}", "hunter2")
    with pytest.raises(ConfigError, match=f"GRAFT_TEST_{name}: ") as caught:
        Some()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
