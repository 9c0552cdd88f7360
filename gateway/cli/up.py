"""Everything at once, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import click

from core import telemetry
from core.services.composition import Platform
from core.services.docker import find
from core.services.running import AlreadyRunning, claim
from core.services.supervisor import Fatal, StartFailed, State, Supervisor
from core.settings import SettingIsWrong, Settings
from gateway.cli import options

DOES = {
    "nats": "the log",
    "postgres": "ledger, build logs, audit index",
    "docker": "containers, an engine of our own",
    "handlers": "decide",
    "projections": "write what is queried",
    "agent": "runs containers",
    "gateway": "API, docs, proxy",
}

AGAIN_S = 0.5
"""`timeout` and some shells signal twice; a person who presses Ctrl-C again is slower."""


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Of the API and the proxy.  [default: 8080]")
@click.option("--host", help="The address to listen at.  [default: 127.0.0.1]")
@options.data
@click.option("--no-docker", is_flag=True, envvar="STRATUS_NO_DOCKER", help="Run without containers.")
@click.option("--verbose", "-v", is_flag=True, help="Show the logs of all processes here, too.")
def command(port: int | None, host: str | None, data_dir: Path, no_docker: bool, verbose: bool) -> None:
    """Start the whole platform and keep it up, until Ctrl-C."""
    environ = dict(os.environ) | {"STRATUS_DATA_DIR": str(data_dir)}
    if port is not None:
        environ["STRATUS_PORT"] = str(port)
    if host is not None:
        environ["STRATUS_HOST"] = host
    if no_docker:
        environ["STRATUS_DOCKER_URL"] = "none"
    try:
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        settings = Settings.read(environ)
        telemetry.configure("supervisor", settings.log_level)
        lock = claim(settings.data_dir)
    except (AlreadyRunning, SettingIsWrong, OSError) as error:
        raise click.ClickException(str(error)) from None
    try:
        raise SystemExit(asyncio.run(_up(settings, environ, verbose)))
    finally:
        (settings.data_dir / "runtime.json").unlink(missing_ok=True)
        os.close(lock)


async def _up(settings: Settings, environ: dict[str, str], verbose: bool) -> int:
    began, loop = time.monotonic(), asyncio.get_running_loop()
    _need_port(settings.host, settings.port)
    try:
        platform = Platform(settings, await find(settings.docker_url, settings.data_dir), environ)
    except Fatal as error:
        raise click.ClickException(str(error)) from None
    stop = asyncio.Event()
    started = False

    def report(name: str, state: State, detail: str) -> None:
        if not stop.is_set():
            platform.running(supervisor.pids(), started).write(settings.data_dir)
        if state == "ready":
            pid = supervisor.pids().get(name, 0)
            click.echo(f"  {name:<12} {pid:>8} {time.monotonic() - began:>7.1f} s   {DOES[name]}")
        elif state == "failed":
            click.echo(f"  {name:<12} {detail} (logs: {settings.data_dir}/logs/{name}.log)", err=True)
        elif state == "stopped" and detail:
            click.echo(f"  {name:<12} {detail}", err=True)

    def echo(name: str, line: str) -> None:
        click.echo(f"{name:<12}| {line}")

    supervisor = Supervisor(platform.children, settings.data_dir / "logs", report, echo if verbose else None)

    asked_at = 0.0

    def interrupted() -> None:
        nonlocal asked_at
        if not stop.is_set():
            asked_at = time.monotonic()
            stop.set()
        elif time.monotonic() - asked_at > AGAIN_S:
            click.echo("Killing everything.", err=True)
            supervisor.kill()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    click.echo(f"Stratus, with its data in {settings.data_dir}")
    starting, stopping = asyncio.ensure_future(supervisor.start()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            started = True
            platform.running(supervisor.pids(), started).write(settings.data_dir)
            _welcome(platform, settings, time.monotonic() - began)
            await stopping
        return 0
    except StartFailed as failure:
        click.echo(f"Error: {failure}", err=True)
        click.echo(
            f"The logs are in {settings.data_dir}/logs. `stratus doctor` checks what is needed.", err=True
        )
        return 1
    finally:
        starting.cancel()
        stopping.cancel()
        click.echo("Stopping: containers, then processes, the last one first. Ctrl-C again kills them.")
        stop.set()
        await supervisor.stop()
        click.echo("Stopped.")


def _need_port(host: str, port: int) -> None:
    """Sooner and clearer than the gateway's own death would tell."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise click.ClickException(
            f"can not listen at {host}:{port} ({error.strerror or error}): choose another --port or --host"
        ) from None


def _welcome(platform: Platform, settings: Settings, took_s: float) -> None:
    """Where everything is, for people."""
    rows = [
        ("API, docs, apps", f"{platform.url}  ({platform.url}/docs)"),
        ("Log", f"NATS at {platform.nats_url.rpartition('@')[2]}, durability: {_durability(settings)}"),
        ("Containers", f"{platform.docker.url or 'NONE CAN RUN'} ({platform.docker.reason})"),
        ("Logs", f"{settings.data_dir}/logs"),
    ]
    click.echo(f"Ready in {took_s:.1f} s.")
    for name, where in rows:
        click.echo(f"  {name:<16} {where}")
    if settings.development:
        click.echo("  Development mode: a default user exists. Not for others to reach.")


def _durability(settings: Settings) -> str:
    if settings.nats_url:
        return "as that server is set up (`stratus doctor` shows it)"
    if settings.sync_interval == "always":
        return "on disk before it is acknowledged"
    return f"on disk within {settings.sync_interval}"
