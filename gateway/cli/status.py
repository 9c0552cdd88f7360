"""What runs: the platform's processes, the machines, the apps and their containers."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from core.jetstream import JetStreamLog
from core.services.process import memory_kib
from core.services.running import Running
from gateway.cli import options
from projections.views import Views, follow

CATCH_UP_S = 600.0


@click.command()
@options.data
@options.nats
def command(data_dir: Path, nats_url: str | None) -> None:
    """Show what runs."""
    console = Console(soft_wrap=True)
    if nats_url is None:
        console.print(processes(options.found(data_dir)))
    views = options.run(_views(data_dir, nats_url))
    for table in (nodes(views), images(views), containers(views)):
        if table.row_count:
            console.print(table)


async def _views(data_dir: Path, nats_url: str | None) -> Views:
    async with options.connected(data_dir, nats_url) as bus:
        history, views = JetStreamLog(bus), Views()
        following = asyncio.create_task(follow(history, views))
        try:
            await views.wait(await history.end(), CATCH_UP_S)
        finally:
            following.cancel()
    return views


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def processes(running: Running) -> Table:
    table = _table(running.url, "process", "pid", "memory", "up")
    total = 0
    everything = {"supervisor": running.supervisor, **running.processes}
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    for name, process in everything.items():
        if process.lives:
            kib = memory_kib(process.pid)
            total += kib
            up_s = int(since_boot - process.born / os.sysconf("SC_CLK_TCK"))
            table.add_row(name, str(process.pid), f"{kib / 1024:.0f} MiB", f"{up_s} s")
        else:
            table.add_row(name, "-", "-", "[red]down[/red]")
    table.add_row("", "", f"{total / 1024:.0f} MiB", "")
    return table


def nodes(views: Views) -> Table:
    table = _table("Machines", "node", "cluster", "engine", "cpu", "memory", "")
    for node in views.fleet.nodes():
        table.add_row(
            node.node_id,
            node.cluster_id,
            node.engine,
            f"{node.cpu_milli / 1000:g}",
            f"{node.memory_mib} MiB",
            "cordoned" if node.cordoned else "",
        )
    return table


def images(views: Views) -> Table:
    table = _table("Apps", "image", "name", "hostname", "status", "instances")
    for image in views.catalog.all():
        table.add_row(
            image.image_id,
            f"{image.name}:{image.tag}",
            image.hostname or "-",
            image.status,
            f"{len(image.instances)} of {image.min_instances} to {image.max_instances}",
        )
    return table


def containers(views: Views) -> Table:
    table = _table("Containers", "container", "app", "status", "run", "node", "address")
    for one in (one for image in views.catalog.all() for one in views.containers.of_image(image.image_id)):
        table.add_row(
            one.container_id,
            one.name,
            "ready" if one.ready else one.status,
            str(one.run),
            one.node_id or "-",
            f"{one.address}:{one.port}" if one.address else "-",
        )
    return table
