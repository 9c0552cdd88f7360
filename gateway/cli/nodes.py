"""The machines: how full each is, and whether it takes new work."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from msgspec import Struct

from gateway.cli import named, options, session
from gateway.cli.clusters import Amount
from gateway.cli.plan import carry_out
from gateway.cli.status import State, state
from gateway.cli.tables import add, say, show, table
from gateway.cli.units import memory, thousandths
from gateway.exchange import now_ms
from gateway.fleet import Verb, wishes
from projections.fleet import Node
from projections.views import Views

DONE: dict[Verb, str] = {
    "cordon": "gets nothing new; what it runs stays",
    "drain": "gets nothing new, and what it runs goes elsewhere",
    "uncordon": "gets work again",
}


class Line(Struct, frozen=True):
    """One machine as `--json` prints it."""

    node_id: str
    cluster_id: str
    state: State
    runs: int
    total: Amount
    used: Amount
    gpu_model: str


@click.group(invoke_without_command=True)
@options.json
@options.data
@options.nats
@click.pass_context
def command(ctx: click.Context, as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    """Show the machines, and how full they are."""
    if ctx.invoked_subcommand is None:
        options.run(_list(as_json, data_dir, nats_url))


async def _list(as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        lines = [_line(here.views, node) for node in here.views.fleet.nodes()]
    if as_json:
        click.echo(msgspec.json.encode(lines))
        return
    if not lines:
        click.echo("There is no machine: an agent makes one, `stratus up` starts it.")
        return
    shown = table("Machines", "node", "cluster", "state", "runs", "cpu", "memory", "GPUs", "model")
    for one in lines:
        used, total = one.used, one.total
        add(
            shown,
            one.node_id,
            one.cluster_id,
            one.state,
            one.runs,
            f"{thousandths(used.cpu_milli)} of {thousandths(total.cpu_milli)}",
            f"{memory(used.memory_mib)} of {memory(total.memory_mib)}",
            f"{thousandths(used.gpu_milli)} of {thousandths(total.gpu_milli)}",
            one.gpu_model or "-",
        )
    show(shown)


def _line(views: Views, node: Node) -> Line:
    held = views.scheduling.held_on(node.cluster_id, node.node_id)
    return Line(
        node_id=node.node_id,
        cluster_id=node.cluster_id,
        state=state(node),
        runs=len(held),
        total=Amount(node.cpu_milli, node.memory_mib, 1000 * node.gpus),
        used=Amount.of(place.share for place in held),
        gpu_model=node.gpu_model,
    )


@command.command()
@click.argument("node_id", metavar="NODE")
@options.plan
@options.data
@options.nats
def cordon(node_id: str, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    """Give a machine nothing new."""
    options.run(_turn("cordon", node_id, planned, data_dir, nats_url))


@command.command()
@click.argument("node_id", metavar="NODE")
@options.plan
@options.data
@options.nats
def drain(node_id: str, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    """Give a machine nothing new, and move what it runs elsewhere."""
    options.run(_turn("drain", node_id, planned, data_dir, nats_url))


@command.command()
@click.argument("node_id", metavar="NODE")
@options.plan
@options.data
@options.nats
def uncordon(node_id: str, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    """Give a machine work again."""
    options.run(_turn("uncordon", node_id, planned, data_dir, nats_url))


async def _turn(verb: Verb, node_id: str, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        node = named.node(here.views, node_id)
        wish, consequence = wishes(verb, node, now_ms())
        happened = await carry_out(here, wish, planned=planned, consequence=consequence)
    if not planned:
        show(say(f"{node_id} {DONE[verb]}{'' if happened else ', as before'}."))
