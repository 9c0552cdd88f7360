"""The embedded Postgres: made once, its own master, and back with its data whatever ended it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from core.services.postgres import Postgres
from core.services.process import born
from core.services.supervisor import Fatal, Supervisor


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stratus-test-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


async def _value(server: Postgres, query: str) -> object:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_what_was_written_is_there_after_a_kill_and_after_a_new_start(folder: Path) -> None:
    server = Postgres(folder)
    supervisor = Supervisor([server.child()], folder / "logs")
    try:
        await supervisor.start()
        await _value(server, "create table things as select 7 as number")
        pid = supervisor.pids()["postgres"]
        await _value(server, "checkpoint")
        os.kill(pid, signal.SIGKILL)
        while supervisor.pids().get("postgres", pid) == pid or not supervisor.is_ready("postgres"):
            await asyncio.sleep(0.02)
        assert await _value(server, "select number from things") == 7
    finally:
        await supervisor.stop()
    supervisor = Supervisor([Postgres(folder).child()], folder / "logs")
    try:
        await supervisor.start()
        assert await _value(server, "select number from things") == 7
    finally:
        await supervisor.stop()


async def test_it_does_not_listen_to_the_network(folder: Path) -> None:
    server = Postgres(folder)
    supervisor = Supervisor([server.child()], folder / "logs")
    try:
        await supervisor.start()
        assert await _value(server, "show listen_addresses") == ""
    finally:
        await supervisor.stop()
    assert (folder / "postgres").stat().st_mode & 0o077 == 0


async def test_a_pid_file_that_names_another_process_by_now_is_no_obstacle(folder: Path) -> None:
    server = Postgres(folder)
    await server.prepare()
    (folder / "postgres/cluster/postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n1\n5432\n/tmp\n\n")
    supervisor = Supervisor([server.child()], folder / "logs")
    try:
        await supervisor.start()
        assert await _value(server, "select 1") == 1
    finally:
        await supervisor.stop()


async def test_a_folder_that_is_somebody_elses_is_refused(folder: Path) -> None:
    target = folder / "elsewhere"
    target.mkdir()
    (folder / "postgres").symlink_to(target)
    with pytest.raises(Fatal, match="is not ours"):
        await Postgres(folder).prepare()


async def test_a_killed_supervisor_takes_it_along(folder: Path) -> None:
    program = textwrap.dedent(
        f"""
        import asyncio
        from pathlib import Path
        from core.services.postgres import Postgres
        from core.services.supervisor import Supervisor

        async def main():
            folder = Path({str(folder)!r})
            supervisor = Supervisor([Postgres(folder).child()], folder / "logs")
            await supervisor.start()
            print(supervisor.pids()["postgres"], flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    async with asyncio.timeout(20):
        while born(pid):
            await asyncio.sleep(0.05)
