"""`python -m projections`, as it is started and ended by whoever runs the platform."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from core.bus import Bus
from core.jetstream import JetStreamLog
from core.log import Append
from projections.audit import search
from projections.database import Database
from tests.broker import Broker
from tests.projections.history import ADA, History, image

ROOT = Path(__file__).parents[2]


class Process:
    def __init__(self, broker: Broker, database: str, folder: Path) -> None:
        self._env = {
            **os.environ,
            "STRATUS_NATS_URL": broker.url,
            "STRATUS_POSTGRES_URL": database,
            "STRATUS_DATA_DIR": str(folder),
        }

    async def __aenter__(self) -> Process:
        command = (sys.executable, "-m", "projections")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=self._env, stdout=pipe)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def says(self, event: str) -> dict[str, object]:
        """The first line that tells of this event."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told: dict[str, object] = msgspec.json.decode(line)
            if told["event"] == event:
                return told
        raise AssertionError(f"it ended without saying {event!r}")

    async def ends(self) -> int:
        return await self._process.wait()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)


@pytest.fixture
def process(broker: Broker, empty_database: str, tmp_path: Path) -> Process:
    return Process(broker, empty_database, tmp_path)


async def test_it_is_ready_when_it_has_caught_up_and_ends_when_it_is_told_to(
    process: Process, bus: Bus, pool: Database
) -> None:
    history = History()
    (recorded,) = history.do(image("a"), ADA)
    await JetStreamLog(bus).append(Append(recorded.stream, 0, recorded.commit))
    async with process:
        await process.says("ready")
        assert [entry.event for entry in await search(pool, [ADA])] == ["ImageRegistered"]
        process.terminate()
        assert await process.ends() == 0


async def test_it_ends_and_says_why_when_the_log_is_not_the_databases(
    process: Process, bus: Bus, pool: Database
) -> None:
    await pool.execute("insert into checkpoints values ('billing', 12)")
    async with process:
        told = await process.says("the database does not belong to this log")
        assert told["reason"] == "the database has read up to 12, the log ends at 0"
        assert await process.ends() == 1
