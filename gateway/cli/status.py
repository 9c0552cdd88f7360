"""What runs: the platform's processes, the machines, the apps and their containers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import click
from rich.table import Table

from core.services.process import memory_kib
from core.services.running import Running
from gateway.cli import options, session
from gateway.cli.tables import show, table
from projections.fleet import Node
from projections.views import Views

State = Literal["ready", "cordoned", "drained", "lost"]


@click.command()
@options.data
@options.nats
def command(data_dir: Path, nats_url: str | None) -> None:
    """Show what runs."""
    if nats_url is None:
        show(processes(options.found(data_dir)))
    views = options.run(_views(data_dir, nats_url))
    show(*(one for one in (nodes(views), images(views), containers(views)) if one.row_count))


async def _views(data_dir: Path, nats_url: str | None) -> Views:
    async with session.opened(data_dir, nats_url) as here:
        return here.views


def processes(running: Running) -> Table:
    shown = table(running.url, "process", "pid", "memory", "up")
    total = 0
    everything = {"supervisor": running.supervisor, **running.processes}
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    for name, process in everything.items():
        if process.lives:
            kib = memory_kib(process.pid)
            total += kib
            up_s = int(since_boot - process.born / os.sysconf("SC_CLK_TCK"))
            shown.add_row(name, str(process.pid), f"{kib / 1024:.0f} MiB", f"{up_s} s")
        else:
            shown.add_row(name, "-", "-", "[red]down[/red]")
    shown.add_row("", "", f"{total / 1024:.0f} MiB", "")
    return shown


def nodes(views: Views) -> Table:
    shown = table("Machines", "node", "cluster", "engine", "cpu", "memory", "")
    for node in views.fleet.nodes():
        shown.add_row(
            node.node_id,
            node.cluster_id,
            node.engine,
            f"{node.cpu_milli / 1000:g}",
            f"{node.memory_mib} MiB",
            "" if state(node) == "ready" else state(node),
        )
    return shown


def state(node: Node) -> State:
    if node.lost:
        return "lost"
    return "drained" if node.drained else "cordoned" if node.cordoned else "ready"


def images(views: Views) -> Table:
    shown = table("Apps", "image", "name", "hostname", "status", "instances")
    for image in views.catalog.all():
        shown.add_row(
            image.image_id,
            f"{image.name}:{image.tag}",
            image.hostname or "-",
            image.status,
            f"{len(image.instances)} of {image.min_instances} to {image.max_instances}",
        )
    return shown


def containers(views: Views) -> Table:
    shown = table("Containers", "container", "app", "status", "run", "node", "address")
    for one in (one for image in views.catalog.all() for one in views.containers.of_image(image.image_id)):
        shown.add_row(
            one.container_id,
            one.name,
            "ready" if one.ready else one.status,
            str(one.run),
            one.node_id or "-",
            f"{one.address}:{one.port}" if one.address else "-",
        )
    return shown
