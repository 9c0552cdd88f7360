"""Whether everything the platform needs is there and set up as it should be; each asked, none assumed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import click
import msgspec

from core.bus import Bus
from core.log import Unavailable
from core.services import docker, nats, postgres
from core.services.running import Running
from core.services.supervisor import Fatal
from core.settings import SettingIsWrong, Settings
from gateway.cli import options

DISK_MIB_MIN = 1024
FILES_MIN = 4096
STREAMS = ("EVENTS", "COMMANDS", "LEASES", "DEAD", "VAULT", "OUTPUT")
PATIENCE_S = 3.0

Word = Literal["ok", "note", "wrong"]
MARK = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "wrong": "[red]wrong[/red]"}


class Finding(NamedTuple):
    what: str
    word: Word
    found: str


@click.command()
@options.data
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(data_dir: Path, as_json: bool) -> None:
    """Check everything the platform needs. Exit code 1 if something is wrong."""
    findings = options.run(_examine(data_dir))
    if as_json:
        click.echo(msgspec.json.encode([finding._asdict() for finding in findings]))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, show_header=False)
        for what, word, found in findings:
            table.add_row(what, MARK[word], found)
        Console(soft_wrap=True, highlight=False).print(table)
    if any(finding.word == "wrong" for finding in findings):
        raise SystemExit(1)


async def _examine(data_dir: Path) -> list[Finding]:
    try:
        settings = Settings.read(dict(os.environ) | {"STRATUS_DATA_DIR": str(data_dir)})
    except SettingIsWrong as error:
        return [Finding("settings", "wrong", str(error))]
    running = Running.read(settings.data_dir)
    if running is not None and not running.supervisor.lives:
        running = None
    findings = [*_machine(settings.data_dir)]
    if running is None:
        findings.append(Finding("platform", "note", "does not run here: `stratus up` starts it"))
    else:
        findings += _processes(running)
    nats_url = running.nats_url if running else settings.nats_url
    postgres_url = running.postgres_url if running else settings.postgres_url
    findings += [one async for one in _log(nats_url, running.nats_monitor if running else "", settings)]
    findings.append(await _postgres(postgres_url))
    findings.append(await _docker(running, settings))
    return findings


def _machine(data_dir: Path) -> list[Finding]:
    try:
        ours = version("stratus")
    except PackageNotFoundError:
        ours = "not installed, run from its sources"
    free_mib = shutil.disk_usage(data_dir).free >> 20
    files = os.sysconf("SC_OPEN_MAX")
    return [
        Finding("stratus", "ok", ours),
        Finding("Python", "ok" if sys.version_info >= (3, 11) else "wrong", sys.version.split()[0]),
        Finding(
            "disk",
            "ok" if free_mib >= DISK_MIB_MIN else "wrong",
            f"{free_mib / 1024:.1f} GiB free for {data_dir} (1 is the least)",
        ),
        Finding("open files", "ok" if files >= FILES_MIN else "note", f"{files} a process"),
    ]


def _processes(running: Running) -> list[Finding]:
    down = sorted(name for name, process in running.processes.items() if not process.lives)
    if down:
        return [Finding("platform", "wrong", f"not running now: {', '.join(down)}; see their logs")]
    return [
        Finding(
            "platform",
            "ok" if running.ready else "note",
            f"{len(running.processes)} processes, {running.url}",
        )
    ]


async def _log(url: str, monitor: str, settings: Settings) -> AsyncIterator[Finding]:
    if not url:
        try:
            binary = nats.binary()
        except Fatal as error:
            yield Finding("NATS", "wrong", str(error))
            return
        yield Finding("NATS", "ok", f"of our own, {await _said(str(binary), '-v')}")
        yield _durability(settings.sync_interval, "as set, for the next start")
        return
    try:
        said = await asyncio.wait_for(nats.info(url), PATIENCE_S)
    except (OSError, TimeoutError) as error:
        yield Finding("NATS", "wrong", f"no answer: {error or 'too late'}")
        return
    complaint = nats.unfit(said)
    yield Finding(
        "NATS", "wrong" if complaint else "ok", complaint or f"nats-server {said['version']}, JetStream"
    )
    yield await _live_durability(monitor)
    try:
        bus = await asyncio.wait_for(Bus.connect(url, "stratus-doctor"), PATIENCE_S)
    except Exception as error:  # nats-py raises many kinds; all mean the same here
        yield Finding("streams", "wrong", f"can not connect: {error}")
        return
    try:
        for name in STREAMS:
            yield await _stream(bus, name)
    finally:
        await bus.close()


async def _live_durability(monitor: str) -> Finding:
    """What the server itself says it does."""
    import aiohttp

    if not monitor:
        return Finding("durability", "note", "of a server elsewhere: look at its jetstream.sync_interval")
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http,
            http.get(f"{monitor}/jsz?config=true") as answer,
        ):
            config = (await answer.json())["config"]
    except (aiohttp.ClientError, TimeoutError, KeyError) as error:
        return Finding("durability", "wrong", f"the server does not tell: {error}")
    if config.get("sync_always"):
        return _durability("always", "the server says")
    return _durability(
        f"{int(config.get('sync_interval', 120_000_000_000)) // 1_000_000}ms", "the server says"
    )


def _durability(interval: str, who: str) -> Finding:
    if interval == "always":
        return Finding(
            "durability", "ok", f"every event is on disk before it is acknowledged ({who}: always)"
        )
    return Finding("durability", "note", f"a power failure may lose the last moments ({who}: {interval})")


async def _stream(bus: Bus, name: str) -> Finding:
    try:
        _, answer = await bus.request(f"$JS.API.STREAM.INFO.{name}", b"")
    except Unavailable as error:
        return Finding(f"stream {name}", "wrong", str(error))
    said = msgspec.json.decode(answer)
    if "error" in said:
        return Finding(f"stream {name}", "wrong", said["error"]["description"])
    config, state = said["config"], said["state"]
    found = f"{state['messages']} messages, {state['bytes'] >> 10} KiB, {config['num_replicas']} kept"
    if name == "EVENTS":
        forgets = [
            what
            for what, wrong in (
                ("deny_delete is off", not config.get("deny_delete")),
                ("deny_purge is off", not config.get("deny_purge")),
                ("events expire", config.get("max_age", 0) > 0),
                ("their number is limited", config.get("max_msgs", -1) > 0),
                ("their size is limited", config.get("max_bytes", -1) > 0),
                ("old ones are discarded", config.get("discard") != "new"),
            )
            if wrong
        ]
        if forgets:
            return Finding("stream EVENTS", "wrong", f"may forget: {', '.join(forgets)}")
    if name == "DEAD" and state["messages"]:
        return Finding("stream DEAD", "note", f"{state['messages']} parked commands: `stratus dead list`")
    return Finding(f"stream {name}", "ok", found)


async def _postgres(url: str) -> Finding:
    if not url:
        try:
            return Finding(
                "Postgres", "ok", "of our own, " + await _said(str(postgres.programs() / "postgres"), "-V")
            )
        except Fatal as error:
            return Finding("Postgres", "wrong", str(error))
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=PATIENCE_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        return Finding("Postgres", "wrong", f"no answer: {error or 'too late'}")
    try:
        server = await connection.fetchval("show server_version")
        size = await connection.fetchval("select pg_database_size(current_database())")
    finally:
        await connection.close()
    if int(str(server).split(".")[0]) < 15:
        return Finding("Postgres", "wrong", f"{server} is too old: 15 is the least")
    return Finding("Postgres", "ok", f"{server}, {size >> 20} MiB")


async def _docker(running: Running | None, settings: Settings) -> Finding:
    if running is not None:
        url, how, reason = running.docker_url, "setting", running.docker_reason
    else:
        choice = await docker.find(settings.docker_url, settings.data_dir)
        url, how, reason = choice.url, choice.how, choice.reason
    if not url:
        return Finding("Docker", "note", f"containers can not run: {reason}")
    if how == "setting" and not await docker.answers(url):
        return Finding("Docker", "wrong", f"{url} does not answer")
    return Finding("Docker", "ok", f"{url}: {reason}")


async def _said(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode().strip()
