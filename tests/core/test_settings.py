"""What can be set, and how a wrong value is turned down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.settings import SettingIsWrong, Settings


def read(folder: Path, **environ: str) -> Settings:
    return Settings.read({"STRATUS_DATA_DIR": str(folder), **environ})


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert (settings.port, settings.sync_interval, settings.token_minutes) == (8080, "always", 30)
    assert settings.node_id.startswith("node-")
    assert not settings.development


def test_values_come_from_variables_of_their_names(tmp_path: Path) -> None:
    settings = read(tmp_path, STRATUS_PORT="9000", STRATUS_SYNC_INTERVAL="100ms", STRATUS_DEVELOPMENT="yes")
    assert (settings.port, settings.sync_interval, settings.development) == (9000, "100ms", True)


def test_origins_are_a_list(tmp_path: Path) -> None:
    settings = read(tmp_path, STRATUS_CORS_ORIGINS="https://a.example, http://localhost:5173")
    assert settings.cors_origins == ("https://a.example", "http://localhost:5173")


def test_the_names_other_platforms_use_are_understood(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        JWT_SECRET_KEY="0123456789" * 4,
        ACCESS_TOKEN_EXPIRE_MINUTES="5",
        LOG_LEVEL="WARNING",
        STRATUS_DEV="1",
    )
    assert settings.jwt_secret == "0123456789" * 4
    assert (settings.token_minutes, settings.log_level, settings.development) == (5, "warning", True)


def test_our_own_name_wins_over_an_alias(tmp_path: Path) -> None:
    assert read(tmp_path, STRATUS_LOG_LEVEL="debug", LOG_LEVEL="error").log_level == "debug"


def test_an_empty_variable_is_as_good_as_none(tmp_path: Path) -> None:
    assert read(tmp_path, STRATUS_PORT="").port == 8080


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STRATUS_PORT", "eighty"),
        ("STRATUS_PORT", "0"),
        ("STRATUS_PORT", "65536"),
        ("STRATUS_SYNC_INTERVAL", "sometimes"),
        ("STRATUS_SYNC_INTERVAL", "0ms"),
        ("STRATUS_DOCKER_URL", "/var/run/docker.sock"),
        ("STRATUS_NODE_ID", "a.b"),
        ("STRATUS_DEVELOPMENT", "perhaps"),
        ("STRATUS_SECURE_COOKIES", "perhaps"),
        ("STRATUS_CORS_ORIGINS", "*"),
        ("STRATUS_LOG_LEVEL", "loud"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "-1"),
    ],
)
def test_a_wrong_value_is_turned_down_by_the_name_of_its_variable(
    tmp_path: Path, variable: str, value: str
) -> None:
    with pytest.raises(SettingIsWrong, match=rf"^{variable}: .*{re.escape(value)}"):
        read(tmp_path, **{variable: value})


def test_a_secret_that_is_too_short_is_turned_down_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(SettingIsWrong, match=r"^JWT_SECRET_KEY: ") as wrong:
        read(tmp_path, JWT_SECRET_KEY="hunter2")
    assert "hunter2" not in str(wrong.value)


def test_secrets_are_made_once_and_only_for_their_owner(tmp_path: Path) -> None:
    first, second = read(tmp_path), read(tmp_path)
    assert (first.jwt_secret, first.vault_pepper) == (second.jwt_secret, second.vault_pepper)
    assert first.jwt_secret != first.vault_pepper
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o600}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_a_data_directory_that_can_not_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingIsWrong, match=r"^STRATUS_DATA_DIR: "):
        read(tmp_path / "file")
