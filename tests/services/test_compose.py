"""compose.yaml runs the same processes as `stratus up`, with the same promises."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.services.composition import Platform
from core.services.docker import Choice
from core.settings import Settings

ROOT = Path(__file__).parents[2]
FILLED_IN = {
    name: "0123456789abcdef0123456789abcdef"
    for name in ("NATS_TOKEN", "POSTGRES_PASSWORD", "JWT_SECRET_KEY", "VAULT_PEPPER")
} | {"DOCKER_GID": "999"}


def composed() -> dict[str, Any]:
    """The file with its variables filled in, the way Compose does."""
    text = (ROOT / "compose.yaml").read_text()

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        return FILLED_IN[name] if default is None else default

    pattern = r"(?<!\$)\$\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}"
    loaded: dict[str, Any] = yaml.safe_load(re.sub(pattern, value, text))
    return loaded


def test_it_runs_every_process_of_the_platform(tmp_path: Path) -> None:
    settings = Settings.read({"STRATUS_DATA_DIR": str(tmp_path)})
    ours = {child.name for child in Platform(settings, Choice("tcp://elsewhere", "setting", ""), {}).children}
    assert set(composed()["services"]) == ours


def test_every_command_is_a_module_of_ours() -> None:
    commands = [
        service["command"][0] for service in composed()["services"].values() if service["image"] == "stratus"
    ]
    assert len(commands) == 4
    for module in commands:
        assert find_spec(module) is not None


def test_every_process_gets_settings_that_can_be_read() -> None:
    for name, service in composed()["services"].items():
        if service["image"] == "stratus":
            given = {key: str(value) for key, value in service["environment"].items()}
            settings = Settings.read(given)
            assert settings.nats_url, name
            assert settings.postgres_url, name


def test_the_log_is_on_disk_before_it_is_acknowledged_there_too() -> None:
    content = composed()["configs"]["nats"]["content"]
    assert "sync_interval: always" in content
    assert "token: $$NATS_TOKEN" in content


def test_every_variable_that_must_be_given_is_in_the_example() -> None:
    needed = set(re.findall(r"\$\{([A-Z_]+):\?", (ROOT / "compose.yaml").read_text()))
    example = (ROOT / ".env.example").read_text()
    assert needed == set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE))


def test_servers_are_reachable_from_this_machine_only() -> None:
    ports = [port for service in composed()["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_lock_names_versions_and_no_places() -> None:
    line = re.compile(
        r"[a-z0-9.-]+(\[[a-z,]+\])?==\S+( ; [^\\]+)?( \\)?"
        r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
        r"|    # (via )?[A-Za-z0-9 ().-]+"
        r"|    #"
    )
    for lock in ("requirements.lock", "requirements.runtime.lock"):
        for text in (ROOT / lock).read_text().splitlines():
            assert line.fullmatch(text), text


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="Docker's compose plugin is not installed",
)
def test_compose_itself_accepts_it() -> None:
    subprocess.run(
        ["docker", "compose", "config", "--quiet"],
        cwd=ROOT,
        env=FILLED_IN | {"PATH": "/usr/bin:/bin"},
        check=True,
    )
