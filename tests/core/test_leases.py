"""Who works on what: shared, handed over at once, inherited from the dead, never without a check."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from core.bus import Bus
from core.dead import listed
from core.leases import Lease, Leases
from tests.broker import Broker

NAMES = tuple(f"test-{number}" for number in range(6))


class Member:
    """One process, as far as leases are concerned."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.leading: dict[str, Lease] = {}
        self.checkpoints = dict.fromkeys(NAMES, 0)
        self.leases = Leases(bus, NAMES, self._lead, self._lose, self.checkpoints.__getitem__)

    async def _lead(self, name: str, lease: Lease) -> None:
        self.leading[name] = lease
        self.checkpoints[name] = lease.checkpoint

    async def _lose(self, name: str) -> None:
        self.leading.pop(name)

    async def die(self) -> None:
        """As by kill -9: nothing is given back."""
        assert self.leases._task is not None
        self.leases._task.cancel()
        await self.bus.close()


@asynccontextmanager
async def member(broker: Broker) -> AsyncIterator[Member]:
    bus = await Bus.connect(broker.url, "member")
    one = Member(bus)
    await one.leases.start()
    yield one
    if bus.connected:
        await one.leases.resign()
        await bus.close()


async def until(true: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


async def test_one_alone_leads_everything(broker: Broker, bus: Bus) -> None:
    async with member(broker) as one:
        await asyncio.wait_for(one.leases.settled.wait(), 5)
        assert set(one.leading) == set(NAMES)


async def test_two_share_and_each_lease_has_one_owner(broker: Broker, bus: Bus) -> None:
    async with member(broker) as one, member(broker) as two:
        await until(lambda: len(one.leading) == len(two.leading) == 3)
        assert set(one.leading) | set(two.leading) == set(NAMES)


async def test_who_leaves_hands_over_with_the_checkpoint(broker: Broker, bus: Bus) -> None:
    async with member(broker) as one:
        await until(lambda: len(one.leading) == 6)
        async with member(broker) as two:
            await until(lambda: len(two.leading) == 3)
            one.checkpoints.update(dict.fromkeys(NAMES, 42))
            await one.leases.resign()
            await until(lambda: len(two.leading) == 6)
            assert {two.leading[name].checkpoint for name in one.checkpoints if name in two.leading} >= {42}


async def test_the_dead_are_inherited_from(broker: Broker, bus: Bus) -> None:
    async with member(broker) as one:
        await until(lambda: len(one.leading) == 6)
        async with member(broker) as two:
            await until(lambda: len(two.leading) == 3)
            await one.die()
            await until(lambda: len(two.leading) == 6)
            assert sorted(lease.crashes for lease in two.leading.values()) == [0, 0, 0, 1, 1, 1]


async def test_who_wakes_up_replaced_stands_back(broker: Broker, bus: Bus) -> None:
    async with member(broker) as one:
        await until(lambda: len(one.leading) == 6)
        for name in NAMES:
            taken = b'{"owner":"somebody","checkpoint":7}'
            await bus.ask(f"lease.{name}".encode(), taken)
            one.checkpoints[name] = 9
        await until(lambda: not one.leading)


POISONED = """
import asyncio, os, sys
import core.leases
core.leases.LIFE_S = 0.5
from core.bus import Bus
from core.jetstream import JetStreamLog
from core.leases import Leases
from core.messages.fleet import CordonNode
from handlers import fleet
from handlers.deciders import DECIDERS, STATES
from handlers.partitions import PARTITION_NAMES, Partition, put_aside
from handlers.runtime import Runtime
from msgspec.structs import replace

def decide(command, state):
    if isinstance(command, CordonNode):
        os._exit(9)
    return fleet.decide(command, state)

async def main():
    bus = await Bus.connect(sys.argv[1], "poisoned")
    partitions = {}
    deciders = DECIDERS | {"fleet": replace(fleet.decider, decide=decide)}
    async def lead(name, lease):
        runtime = Runtime(JetStreamLog(bus), deciders, STATES, lambda r, why: put_aside(bus, r, why))
        partitions[name] = Partition(name, bus, runtime, leases, lease)
        await partitions[name].start()
    async def lose(name):
        await partitions.pop(name).stop()
    def checkpoint(name):
        return partitions[name].checkpoint if name in partitions else 0
    leases = Leases(bus, PARTITION_NAMES, lead, lose, checkpoint)
    await leases.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_command_that_kills_its_handler_five_times_is_parked(broker: Broker, bus: Bus) -> None:
    """And the one behind it is decided: no crash loop."""
    node = b'{"type":"%b","node_id":"node-a",%b"at_ms":1}'
    rest = b'"cluster_id":"default","address":"a","engine":"e","cpu_milli":1000,"memory_mib":1000,'
    await bus.js.publish("cmd._.fleet.node-a.CordonNode", node % (b"CordonNode", b""))
    await bus.js.publish("cmd._.fleet.node-a.RegisterNode", node % (b"RegisterNode", rest))

    async def decided() -> bool:
        return (await bus.js.stream_info("EVENTS")).state.messages == 1

    deaths = 0
    while not await decided():
        process = subprocess.Popen([sys.executable, "-c", POISONED, broker.url], cwd=os.getcwd())
        try:
            await until(lambda: process.poll() is not None or decided())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            else:
                deaths += 1
            process.wait()
        assert deaths <= 8, "the poison was never put aside"
    (dead,) = await listed(bus)
    assert dead.subject == "cmd._.fleet.node-a.CordonNode"
    assert "ended the process" in dead.reason


@pytest.mark.parametrize("garbage", [b"", b"[]", b'{"owner":7}'])
async def test_a_lease_nobody_can_read_is_no_reason_to_stop(broker: Broker, bus: Bus, garbage: bytes) -> None:
    await bus.ask(b"lease.test-0", garbage)
    async with member(broker) as one:
        await until(lambda: len(one.leading) == 6)
