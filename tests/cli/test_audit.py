"""`stratus audit replay`: agrees when what runs is what the log says, and fails when it is not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from core.bus import Bus
from core.jetstream import JetStreamLog
from gateway.cli import main
from projections import witness as witnesses
from projections.views import Views
from tests.broker import Broker
from tests.cli.conftest import REGISTERED, Stratus

WITNESS = """
import asyncio, sys
from core.bus import Bus
from core.jetstream import JetStreamLog
from projections.views import Views
from projections.witness import testify
from tests.cli.test_audit import read

async def main():
    bus = await Bus.connect(sys.argv[1], "witness")
    views = await read(JetStreamLog(bus))
    if sys.argv[2] == "forgetful":
        views.fleet = Views().fleet
    await testify(bus, views, "gateway")
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def read(history: JetStreamLog) -> Views:
    views, end = Views(), await history.end()
    async for batch in history.follow():
        for recorded in batch:
            views.apply(recorded)
        if views.position >= end:
            break
    return views


@contextmanager
def witness(url: str, how: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", WITNESS, url, how],
        stdout=subprocess.PIPE,
        env=dict(os.environ) | {"PYTHONPATH": os.getcwd()},
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_without_anybody_to_compare_with_two_replays_are_compared(stratus: Stratus) -> None:
    replayed = stratus("audit", "replay", "--quiet")
    assert replayed.exit_code == 0, replayed.output
    assert "a second replay" in replayed.output
    assert "The replay agrees." in replayed.output


def test_a_process_that_believes_what_the_log_says_is_confirmed(stratus: Stratus, broker: Broker) -> None:
    with witness(broker.url, "true"):
        replayed = stratus("audit", "replay", "--quiet")
    assert replayed.exit_code == 0, replayed.output
    assert "gateway" in replayed.output


def test_a_process_that_believes_something_else_is_found_out(stratus: Stratus, broker: Broker) -> None:
    with witness(broker.url, "forgetful"):
        replayed = stratus("audit", "replay", "--quiet")
    assert replayed.exit_code == 1, replayed.output
    [differs] = [line for line in replayed.output.splitlines() if "DIFFERS" in line]
    assert differs.split()[:3] == ["fleet", "gateway", "3"]
    assert "NOT what the log says" in replayed.output


@pytest.mark.usefixtures("stratus")
def test_everybody_who_is_asked_says_how_far_it_has_read(broker: Broker) -> None:
    async def ask() -> tuple[list[witnesses.Testimony], Views]:
        bus = await Bus.connect(broker.url, "test")
        views = await read(JetStreamLog(bus))
        await witnesses.testify(bus, views, "gateway")
        await witnesses.testify(bus, Views(), "agent")
        heard = await witnesses.question(bus, patience_s=0.3)
        await bus.close()
        return heard, views

    heard, views = asyncio.run(ask())
    assert [(one.process, one.position) for one in heard] == [("agent", 0), ("gateway", 3)]
    assert heard[1].fingerprints == views.fingerprints()
    assert REGISTERED.node_id in {node.node_id for node in views.fleet.nodes()}


def test_an_empty_log_is_replayed_too(broker: Broker) -> None:
    async def prepare() -> None:
        from core.jetstream import create_streams

        bus = await Bus.connect(broker.url, "test")
        await create_streams(bus)
        await bus.close()

    asyncio.run(prepare())
    replayed = CliRunner().invoke(main, ["audit", "replay", "--quiet", "--nats", broker.url])
    assert replayed.exit_code == 0, replayed.output
