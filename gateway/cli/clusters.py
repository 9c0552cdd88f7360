"""What may be given out where: how much of it is, to whom, and by which quotas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import token_hex

import click
import msgspec
from msgspec import Struct

from core.messages.deployments import Share
from core.messages.scheduling import (
    ClusterRepacked,
    CreateCluster,
    LiftQuota,
    RepackCluster,
    SetQuota,
    Totals,
)
from gateway.cli import named, options, session
from gateway.cli.plan import carry_out
from gateway.cli.tables import add, say, show, table
from gateway.cli.units import CPU, MEMORY, memory, thousandths
from gateway.exchange import now_ms
from projections.clusters import Cluster, Quota
from projections.views import Views


class Amount(Struct, frozen=True):
    cpu_milli: int = 0
    memory_mib: int = 0
    gpu_milli: int = 0

    @classmethod
    def of(cls, shares: Iterable[Share]) -> Amount:
        cpu_milli = memory_mib = gpu_milli = 0
        for share in shares:
            cpu_milli += share.cpu_milli
            memory_mib += share.memory_mib
            gpu_milli += share.gpus * share.gpu_milli
        return cls(cpu_milli, memory_mib, gpu_milli)


class Line(Struct, frozen=True):
    """One cluster as `--json` prints it. `total` is of nodes that take work, or hold some."""

    cluster_id: str
    name: str
    owner: str
    nodes: int
    total: Amount
    used: Amount
    waiting: int
    quotas: list[Quota]
    used_by_tenant: dict[str, Amount]


@click.group(invoke_without_command=True)
@options.json
@options.data
@options.nats
@click.pass_context
def command(ctx: click.Context, as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    """Show what may be given out, and what is."""
    if ctx.invoked_subcommand is None:
        options.run(_list(as_json, data_dir, nats_url))


async def _list(as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        lines = [line(here.views, cluster) for cluster in here.views.scheduling.clusters.values()]
    if as_json:
        click.echo(msgspec.json.encode(lines))
        return
    if not lines:
        click.echo("There is no cluster: machines make one by joining, people by `stratus clusters create`.")
        return
    shown = table("Clusters", "cluster", "name", "for", "nodes", "cpu", "memory", "GPUs", "waiting")
    quotas = table("Quotas", "cluster", "tenant", "cpu", "memory", "GPUs", "may borrow", "weight")
    for one in lines:
        add(shown, one.cluster_id, one.name, one.owner or "everybody", one.nodes, *_of(one), one.waiting)
        for quota in one.quotas:
            used = one.used_by_tenant.get(quota.tenant, Amount())
            limits = (
                _part(thousandths, used.cpu_milli, quota.cpu_milli),
                _part(memory, used.memory_mib, quota.memory_mib),
                _part(thousandths, used.gpu_milli, quota.gpu_milli),
            )
            add(quotas, one.name, quota.tenant, *limits, f"{quota.borrow_percent} %", quota.weight)
    show(*(one for one in (shown, quotas) if one.row_count))


def _of(line: Line) -> tuple[str, str, str]:
    used, total = line.used, line.total
    return (
        _part(thousandths, used.cpu_milli, total.cpu_milli),
        _part(memory, used.memory_mib, total.memory_mib),
        _part(thousandths, used.gpu_milli, total.gpu_milli),
    )


def _part(text: Callable[[int], str], used: int, limit: int | None) -> str:
    return f"{text(used)} of {'any' if limit is None else text(limit)}"


def line(views: Views, cluster: Cluster) -> Line:
    id, total = cluster.cluster_id, Amount()
    by_tenant: defaultdict[str, list[Share]] = defaultdict(list)
    nodes = 0
    for node_id, offer in cluster.offers.items():
        held = views.scheduling.held_on(id, node_id)
        for place in held:
            by_tenant[place.tenant].append(place.share)
        if offer.open or held:
            nodes += 1
            total = Amount(
                total.cpu_milli + offer.cpu_milli,
                total.memory_mib + offer.memory_mib,
                total.gpu_milli + 1000 * offer.gpus,
            )
    return Line(
        cluster_id=id,
        name=cluster.name,
        owner=cluster.owner,
        nodes=nodes,
        total=total,
        used=Amount.of(share for shares in by_tenant.values() for share in shares),
        waiting=len(views.scheduling.waiting(id)),
        quotas=list(cluster.quotas.values()),
        used_by_tenant={tenant: Amount.of(shares) for tenant, shares in by_tenant.items()},
    )


@command.command()
@click.argument("name")
@click.option("--cpu", type=CPU, required=True, help="In all, as 32 or 500m.")
@click.option("--memory", type=MEMORY, required=True, help="In all, as 64g.")
@click.option("--gpus", type=click.IntRange(0, 10_000), default=0, show_default=True)
@click.option("--owner", default="", metavar="TENANT", help="Whom it is for.  [default: everybody]")
@options.data
@options.nats
def create(
    name: str, cpu: int, memory: int, gpus: int, owner: str, data_dir: Path, nats_url: str | None
) -> None:
    """Create a cluster of fixed totals; machines make their own by joining."""
    options.run(_create(name, Totals(cpu, memory, gpus), owner, data_dir, nats_url))


async def _create(name: str, totals: Totals, owner: str, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        if owner:
            named.tenant(here.views, owner)
        id = f"clu_{token_hex(8)}"
        await here.send(CreateCluster(cluster_id=id, name=name, at_ms=now_ms(), owner=owner, totals=totals))
    show(say(f"{id} has been created: {name}, for {owner or 'everybody'}."))


@command.command()
@click.argument("cluster")
@click.argument("tenant")
@click.option("--cpu", type=CPU, help="What it may always have.  [default: not limited]")
@click.option("--memory", type=MEMORY, help="Likewise.")
@click.option("--gpus", type=click.FloatRange(0, 1e9), help="Likewise; 0.5 is half of one.")
@click.option("--borrow", type=click.IntRange(0, 10_000), metavar="PERCENT", help="So much more, while free.")
@click.option("--weight", type=click.IntRange(1, 1000), help="Of its claim beside others'.  [default: 100]")
@click.option("--lift", is_flag=True, help="Limit it no more.")
@options.plan
@options.data
@options.nats
def quota(
    cluster: str,
    tenant: str,
    cpu: int | None,
    memory: int | None,
    gpus: float | None,
    borrow: int | None,
    weight: int | None,
    lift: bool,
    planned: bool,
    data_dir: Path,
    nats_url: str | None,
) -> None:
    """Set what a tenant may always have on a cluster, and how much it may borrow."""
    amounts = (cpu, memory, gpus, borrow, weight)
    if lift and any(amount is not None for amount in amounts):
        raise click.UsageError("--lift takes the whole quota away: give no amounts beside it")
    if not lift and (cpu, memory, gpus) == (None, None, None):
        raise click.UsageError("give what is limited: --cpu, --memory or --gpus; or --lift")
    asked = SetQuota(
        cluster_id=cluster,
        tenant=tenant,
        at_ms=now_ms(),
        cpu_milli=cpu,
        memory_mib=memory,
        gpu_milli=None if gpus is None else round(gpus * 1000),
        borrow_percent=borrow or 0,
        weight=100 if weight is None else weight,
    )
    options.run(_quota(asked, lift, planned, data_dir, nats_url))


async def _quota(asked: SetQuota, lift: bool, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        cluster = named.cluster(here.views, asked.cluster_id)
        id, tenant = cluster.cluster_id, asked.tenant
        if lift:
            wish: SetQuota | LiftQuota = LiftQuota(cluster_id=id, tenant=tenant, at_ms=asked.at_ms)
        else:
            named.tenant(here.views, tenant)
            wish = msgspec.structs.replace(asked, cluster_id=id)
        happened = await carry_out(here, wish, planned=planned)
    if not planned:
        done = "is limited no more" if lift else "has its quota"
        show(say(f"{tenant} {done} on {cluster.name}{'' if happened else ', as before'}."))


@command.command()
@click.argument("cluster")
@click.option("--moves", type=click.IntRange(1, 100), default=10, show_default=True, help="At most.")
@options.plan
@options.data
@options.nats
def repack(cluster: str, moves: int, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    """Move runs to where they waste least; each move is a restart."""
    options.run(_repack(cluster, moves, planned, data_dir, nats_url))


async def _repack(word: str, moves: int, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        cluster = named.cluster(here.views, word)
        wish = RepackCluster(cluster_id=cluster.cluster_id, moves_max=moves, at_ms=now_ms())
        happened = await carry_out(here, wish, planned=planned)
    if planned:
        return
    gained = sum(event.gain for event in happened if isinstance(event, ClusterRepacked))
    if happened:
        show(say(f"{cluster.name} wastes {thousandths(gained)} GPUs less."))
    else:
        show(say(f"Nothing to gain on {cluster.name}: nothing has been moved."))
