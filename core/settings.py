"""Everything that can be set, read once from the environment and handed on as values."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

SyncInterval = Annotated[str, Meta(pattern=r"^(?:always|[1-9][0-9]{0,5}(?:ms|s|m))\Z")]
"""When the log reaches the disk: `always` before it is acknowledged, or else up to this much later."""

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_:%~-]+\Z")]

Origin = Annotated[str, Meta(max_length=253, pattern=r"^https?://[A-Za-z0-9.-]+(?::[0-9]+)?\Z")]

_ALIASES = {
    "STRATUS_JWT_SECRET": "JWT_SECRET_KEY",
    "STRATUS_TOKEN_MINUTES": "ACCESS_TOKEN_EXPIRE_MINUTES",
    "STRATUS_LOG_LEVEL": "LOG_LEVEL",
}


class SettingIsWrong(Exception):
    """A setting has a value it can not have; the message names the variable."""


def _node() -> str:
    return "node-" + re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:100]


class Settings(Struct, frozen=True, kw_only=True):
    """Field `x` is the variable `STRATUS_X`.

    `nats_url` and `postgres_url` are '' for servers of the platform's own.
    `docker_url` is '' to look for an engine, 'none' to run without containers.
    `cors_origins`, separated by commas, are the sites whose pages may call the API;
    `secure_cookies` is for a platform that is reached over https.
    """

    data_dir: Path = Path(".data")
    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8080
    nats_url: str = ""
    postgres_url: str = ""
    docker_url: Annotated[str, Meta(pattern=r"^(?:none|(?:unix|tcp|http|https)://.+)?\Z")] = ""
    sync_interval: SyncInterval = "always"
    jwt_secret: Annotated[str, Meta(min_length=32)]
    vault_pepper: Annotated[str, Meta(min_length=32)]
    token_minutes: Annotated[int, Meta(ge=1, le=525_600)] = 30
    development: bool = False
    node_id: Name = field(default_factory=_node)
    cluster_id: Name = "default"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    cors_origins: tuple[Origin, ...] = ("http://localhost:3000", "http://127.0.0.1:3000")
    secure_cookies: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Secrets that are not given are made once, and kept under the data directory.

        Raises `SettingIsWrong`.
        """
        given: dict[str, tuple[str, str]] = {}
        for name in cls.__struct_fields__:
            variable = f"STRATUS_{name.upper()}"
            for alias in (variable, _ALIASES.get(variable, variable)):
                if value := environ.get(alias, ""):
                    given[name] = (alias, value)
                    break
        if "development" not in given and environ.get("STRATUS_DEV"):
            given["development"] = ("STRATUS_DEV", environ["STRATUS_DEV"])
        types = {one.name: one.type for one in msgspec.structs.fields(cls)}
        values: dict[str, Any] = {}
        for name, (variable, value) in given.items():
            try:
                values[name] = _convert(name, value, types[name])
            except (msgspec.ValidationError, ValueError) as wrong:
                shown = "" if name in ("jwt_secret", "vault_pepper") else f" (it is {value!r})"
                raise SettingIsWrong(f"{variable}: {wrong}{shown}") from None
        values["data_dir"] = values.get("data_dir", Path(".data")).absolute()
        for name in ("jwt_secret", "vault_pepper"):
            if name not in values:
                values[name] = keep_secret(values["data_dir"], name)
        return cls(**values)


def _convert(name: str, value: str, type_: Any) -> Any:
    if name == "data_dir":
        return Path(value).expanduser()
    if name == "cors_origins":
        return msgspec.convert([one.strip() for one in value.split(",")], type_)
    if name in ("log_level", "development", "secure_cookies"):
        value = value.lower()
    if type_ is bool and value in ("yes", "on", "no", "off"):
        return value in ("yes", "on")
    return msgspec.convert(value, type_, strict=False)


def keep_secret(data_dir: Path, name: str) -> str:
    """The secret of this name: 64 hex digits, made by whoever asks first, readable by the owner only.

    Raises `SettingIsWrong` if it can not be kept.
    """
    folder = data_dir / "secrets"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        if not path.exists():
            draft = folder / f".{name}.{secrets.token_hex(8)}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            with suppress(FileExistsError):  # another process was first: its secret is the one
                os.link(draft, path)
            draft.unlink()
        return path.read_text()
    except OSError as error:
        raise SettingIsWrong(
            f"STRATUS_DATA_DIR: no secrets can be kept in {folder}: {error.strerror}"
        ) from None
