"""A log with a short history, and a way to call the command line on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from click.testing import CliRunner, Result

from core.bus import Bus
from core.contexts import Stream
from core.jetstream import JetStreamLog, create_streams
from core.log import Append, Commit, Decision
from core.messages.fleet import NodeCordoned, NodeId, NodeRegistered
from gateway.cli import main
from tests.broker import Broker

MOMENT_MS = 1_795_000_000_000
REGISTERED = NodeRegistered(NodeId("node-1"), "default", "10.0.0.1", "docker 28", 4000, 8192, MOMENT_MS)
CORDONED = NodeCordoned(NodeId("node-1"), MOMENT_MS)

Stratus = Callable[..., Result]


@pytest.fixture
def stratus(broker: Broker) -> Stratus:
    """`stratus(*words)`: what that prints and ends with, on the history of one node."""
    asyncio.run(write_history(broker.url))

    def call(*words: str) -> Result:
        return CliRunner().invoke(main, words, env={"STRATUS_NATS_URL": broker.url, "COLUMNS": "200"})

    return call


async def write_history(url: str) -> None:
    bus = await Bus.connect(url, "test")
    await create_streams(bus)
    log, stream = JetStreamLog(bus), Stream("_", "fleet", "node-1")
    first = await log.append(Append(stream, 0, commit(1, "c1", REGISTERED)))
    await log.append(Append(stream, first, commit(2, "c2", CORDONED)))
    other = Append(
        Stream("_", "fleet", "node-2"),
        0,
        commit(3, "c3", msgspec.structs.replace(REGISTERED, node_id="node-2")),
    )
    await log.append(other)
    await bus.close()


def commit(number: int, command: str, event: object) -> Commit:
    return Commit(number, number, [Decision(command, number, "ann", "request-1", [event])])
