"""`stratus doctor`: says what is there, what is missing, and what may lose data."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner, Result

from core.bus import Bus
from gateway.cli import main
from tests.broker import Broker
from tests.cli.conftest import Stratus


def doctor(folder: Path, **environ: str) -> Result:
    environ = {"STRATUS_DOCKER_URL": "none"} | environ
    return CliRunner().invoke(main, ["doctor", "--json", "--data", str(folder)], env=environ)


def findings(result: Result) -> dict[str, tuple[str, str]]:
    return {one["what"]: (one["word"], one["found"]) for one in json.loads(result.stdout)}


def test_before_the_first_start_it_says_what_there_will_be(tmp_path: Path) -> None:
    result = doctor(tmp_path)
    assert result.exit_code == 0, result.output
    found = findings(result)
    assert found["platform"] == ("note", "does not run here: `stratus up` starts it")
    assert "of our own, nats-server: v2." in found["NATS"][1]
    assert "of our own, postgres (PostgreSQL)" in found["Postgres"][1]
    assert found["durability"][0] == "ok"
    assert found["Docker"] == ("note", "containers can not run: switched off by the setting docker_url")


def test_a_setting_that_may_lose_the_last_moments_is_noted(tmp_path: Path) -> None:
    found = findings(doctor(tmp_path, STRATUS_SYNC_INTERVAL="100ms"))
    assert found["durability"][0] == "note"
    assert "100ms" in found["durability"][1]


def test_a_wrong_setting_is_wrong(tmp_path: Path) -> None:
    result = doctor(tmp_path, STRATUS_PORT="x")
    assert result.exit_code == 1
    assert findings(result)["settings"][1].startswith("STRATUS_PORT: ")


def test_the_streams_of_a_server_elsewhere_are_examined(
    stratus: Stratus, broker: Broker, tmp_path: Path
) -> None:
    found = findings(doctor(tmp_path, STRATUS_NATS_URL=broker.url))
    assert found["stream EVENTS"][0] == "ok"
    assert found["stream EVENTS"][1].startswith("3 messages")


def test_a_log_that_may_forget_is_wrong(broker: Broker, tmp_path: Path) -> None:
    async def forgetful() -> None:
        bus = await Bus.connect(broker.url, "test")
        await bus.js.add_stream(name="EVENTS", subjects=["evt.*.*.*"], max_age=3600)
        await bus.close()

    asyncio.run(forgetful())
    result = doctor(tmp_path, STRATUS_NATS_URL=broker.url)
    assert result.exit_code == 1
    word, found = findings(result)["stream EVENTS"]
    assert word == "wrong"
    assert "events expire" in found
    assert "deny_delete is off" in found


def test_servers_that_do_not_answer_are_wrong(tmp_path: Path) -> None:
    result = doctor(
        tmp_path,
        STRATUS_NATS_URL="nats://127.0.0.1:1",
        STRATUS_POSTGRES_URL="postgresql://stratus@127.0.0.1:1/stratus",
        STRATUS_DOCKER_URL=f"unix://{tmp_path}/docker.sock",
    )
    assert result.exit_code == 1
    found = findings(result)
    assert [found[what][0] for what in ("NATS", "Postgres", "Docker")] == ["wrong"] * 3
