"""`stratus dead`: parked commands can be found, read and given another chance."""

from __future__ import annotations

import asyncio
import json

import pytest

from core import dead
from core.bus import Bus
from core.jetstream import last_sequence
from tests.broker import Broker
from tests.cli.conftest import Stratus


async def _park(url: str, body: bytes) -> None:
    bus = await Bus.connect(url, "test")
    await dead.park(
        bus,
        "cmd._.fleet.node-1.CordonNode",
        body,
        sequence=7,
        command_id="c7",
        actor="ann",
        correlation="request-7",
        reason="ZeroDivisionError: division by zero",
    )
    await bus.close()


async def _commands(url: str) -> int:
    bus = await Bus.connect(url, "test")
    try:
        return await last_sequence(bus, "COMMANDS")
    finally:
        await bus.close()


@pytest.fixture
def parked(stratus: Stratus, broker: Broker) -> Stratus:
    asyncio.run(_park(broker.url, b'{"type":"CordonNode","node_id":"node-1","at_ms":1}'))
    return stratus


def test_none_is_parked_at_first(stratus: Stratus) -> None:
    assert stratus("dead", "list").output == "No command is parked.\n"


def test_a_parked_command_is_listed_with_its_reason(parked: Stratus) -> None:
    listed = parked("dead", "list")
    assert listed.exit_code == 0
    for word in ("CordonNode", "_.fleet.node-1", "ann", "division by zero"):
        assert word in listed.output


def test_all_of_it_can_be_seen(parked: Stratus) -> None:
    shown = json.loads(parked("dead", "show", "1").output)
    assert shown["subject"] == "cmd._.fleet.node-1.CordonNode"
    assert shown["command_sequence"] == 7
    assert shown["body"] == {"type": "CordonNode", "node_id": "node-1", "at_ms": 1}


def test_even_what_is_no_json_can_be_seen(stratus: Stratus, broker: Broker) -> None:
    asyncio.run(_park(broker.url, b"{\xff"))
    assert json.loads(stratus("dead", "show", "1").output)["body"] == "{�"


def test_redriven_it_is_on_the_queue_and_parked_no_more(parked: Stratus, broker: Broker) -> None:
    assert parked("dead", "redrive", "1").exit_code == 0
    assert asyncio.run(_commands(broker.url)) == 1
    assert parked("dead", "list").output == "No command is parked.\n"


def test_all_can_be_redriven_at_once(parked: Stratus, broker: Broker) -> None:
    assert parked("dead", "redrive", "--all").exit_code == 0
    assert asyncio.run(_commands(broker.url)) == 1


@pytest.mark.parametrize("words", [("show", "9"), ("redrive", "9")])
def test_a_number_nothing_is_parked_at_is_named(parked: Stratus, words: tuple[str, ...]) -> None:
    refused = parked("dead", *words)
    assert refused.exit_code == 1
    assert "nothing is parked at 9" in refused.output


def test_what_to_redrive_must_be_said(parked: Stratus) -> None:
    assert parked("dead", "redrive").exit_code == 2
