"""`stratus queue`: who waits for a place, in the order in which they will be served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from rich.console import Group
from rich.live import Live

from core.messages.explanations import Turn
from gateway.cli import named, options, session
from gateway.cli.plan import queue_of, turns
from gateway.cli.session import Session
from gateway.cli.tables import pen, say
from gateway.exchange import now_ms

REST_S = 0.5
"""Between two looks, however fast the log moves."""

AGES_S = 60.0
"""After so long it is drawn anew even if nothing has happened: they wait longer by then."""


class Line(Struct, frozen=True):
    """The queue of one cluster, as `--json` prints it."""

    cluster_id: str
    name: str
    turns: list[Turn]


@click.command()
@click.argument("cluster", required=False)
@click.option("--watch", "-w", is_flag=True, help="Draw it anew whenever something has happened.")
@options.json
@options.data
@options.nats
def command(cluster: str | None, watch: bool, as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    """Show who waits for a place: of one CLUSTER, or of all.

    With --watch and --json there is one line for each look.
    """
    options.run(_queue(cluster, watch, as_json, data_dir, nats_url))


async def _queue(
    cluster: str | None, watch: bool, as_json: bool, data_dir: Path, nats_url: str | None
) -> None:
    async with session.opened(data_dir, nats_url) as here:
        with ExitStack() as stack:
            draw = _pen(stack, watch, as_json)
            while True:
                seen = here.views.position
                draw(await _look(here, cluster))
                if not watch:
                    return
                with suppress(TimeoutError):
                    await here.views.wait(seen + 1, AGES_S)
                await asyncio.sleep(REST_S)


def _pen(stack: ExitStack, watch: bool, as_json: bool) -> Callable[[list[Line]], None]:
    if as_json:
        return lambda lines: click.echo(msgspec.json.encode(lines))
    console = pen()
    if not (watch and console.is_terminal):
        return lambda lines: console.print(_drawn(lines))
    live = stack.enter_context(Live(console=console, auto_refresh=False))
    return lambda lines: live.update(_drawn(lines), refresh=True)


async def _look(here: Session, cluster: str | None) -> list[Line]:
    views = here.views
    if cluster is None:
        chosen = [
            one for one in views.scheduling.clusters.values() if views.scheduling.waiting(one.cluster_id)
        ]
    else:
        chosen = [named.cluster(views, cluster)]
    return [Line(one.cluster_id, one.name, await queue_of(here, one.cluster_id)) for one in chosen]


def _drawn(lines: list[Line]) -> Group:
    at_ms, waiting = now_ms(), [line for line in lines if line.turns]
    if not waiting:
        return Group("Nobody waits for a place.")
    return Group(*(turns(f"Waiting for a place on {say(line.name)}", line.turns, at_ms) for line in waiting))
