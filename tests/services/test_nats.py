"""The embedded nats-server: durable as told, only ours, and back with its data after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from core.bus import Bus
from core.services.nats import Nats, answers, unfit
from core.services.supervisor import Fatal, Supervisor

TOKEN = "a-token-of-the-test"


async def test_what_it_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    server = Nats(tmp_path, "always", TOKEN)
    supervisor = Supervisor([server.child()], tmp_path / "logs")
    try:
        await supervisor.start()
        bus = await Bus.connect(server.url, "test")
        await bus.js.add_stream(name="THINGS", subjects=["things"])
        await bus.js.publish("things", b"kept")
        pid = supervisor.pids()["nats"]
        os.kill(pid, signal.SIGKILL)
        while supervisor.pids().get("nats", pid) == pid or not supervisor.is_ready("nats"):
            await asyncio.sleep(0.02)
        while not bus.connected:
            await asyncio.sleep(0.02)
        assert (await bus.js.get_last_msg("THINGS", "things")).data == b"kept"
        await bus.close()
    finally:
        await supervisor.stop()


async def test_nobody_without_its_token_is_let_in(tmp_path: Path) -> None:
    server = Nats(tmp_path, "100ms", TOKEN)
    supervisor = Supervisor([server.child()], tmp_path / "logs")
    try:
        await supervisor.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b'CONNECT {"verbose":true}\r\n')
        assert (await reader.readline()).startswith(b"INFO ")
        assert (await reader.readline()) == b"-ERR 'Authorization Violation'\r\n"
        writer.close()
        await writer.wait_closed()
    finally:
        await supervisor.stop()


async def test_it_keeps_its_port_from_one_time_to_the_next(tmp_path: Path) -> None:
    first = Nats(tmp_path, "always", TOKEN)
    first.child()
    assert Nats(tmp_path, "always", TOKEN).port == first.port


async def test_something_else_that_answers_is_no_nats_server() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version":"2.9.10","jetstream":true}\r\n')
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Fatal, match=r"2\.9\.10 is too old"):
            await answers(f"nats://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"version": "2.11.9", "jetstream": True}, "nats-server 2.11.9 is too old: 2.12"),
        ({"version": "2.15.1"}, "nats-server 2.15.1 runs without JetStream"),
        ({"version": "2.12.0", "jetstream": True}, ""),
        ({"version": "3.0.0-beta", "jetstream": True}, ""),
    ],
)
def test_an_unfit_server_is_refused_with_words(said: dict[str, object], complaint: str) -> None:
    assert unfit(said).startswith(complaint)
    assert bool(unfit(said)) == bool(complaint)
