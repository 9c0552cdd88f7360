"""What shall run, and how much of it has a place; submitting, scaling and ending it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import click
import msgspec
from msgspec import Struct

from core.messages.deployments import (
    PRIORITY,
    EndDeployment,
    Outcome,
    Restart,
    ScaleDeployment,
    Share,
    SubmitDeployment,
)
from gateway.cli import named, options, session
from gateway.cli.plan import carry_out
from gateway.cli.tables import add, say, show, table
from gateway.cli.units import CPU, DURATION, MEMORY
from gateway.exchange import now_ms
from projections.deployments import Deployment
from projections.views import Views

PORT = 8080


class Submission(Struct, frozen=True):
    """The options of `submit`, as they were given."""

    name: str
    ref: str | None
    image_id: str | None
    cluster: str
    replicas: int
    cpu: int | None
    memory: int | None
    gpus: int | None
    gpu_share: float | None
    gpu_models: tuple[str, ...]
    priority: int
    gang: bool
    not_preemptible: bool
    restart: Restart | None
    duration: int
    port: int | None
    tenant: str | None


class Line(Struct, frozen=True):
    """One deployment as `--json` prints it; `placed` is how many of its replicas have a place."""

    status: str
    placed: int
    deployment: Deployment


@click.group(invoke_without_command=True)
@click.option("--all", "-a", "every", is_flag=True, help="Those that have ended, too.")
@options.json
@options.data
@options.nats
@click.pass_context
def command(ctx: click.Context, every: bool, as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    """Show what shall run, in the order in which it was submitted."""
    if ctx.invoked_subcommand is None:
        options.run(_list(every, as_json, data_dir, nats_url))


async def _list(every: bool, as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        found = list(everything(here.views))
        lines = [line(here.views, one) for one in found if every or one.outcome is None]
        names = {id: cluster.name for id, cluster in here.views.scheduling.clusters.items()}
    if as_json:
        click.echo(msgspec.json.encode(lines))
        return
    if not lines:
        ended = "Nothing runs or waits: --all shows what has ended."
        click.echo(ended if found else "Nothing has been submitted: `stratus deployments submit` does that.")
        return
    shown = table("Deployments", "deployment", "name", "cluster", "tenant", "priority", "placed", "status")
    for one in lines:
        it = one.deployment
        placed = f"{one.placed} of {it.replicas}"
        add(
            shown, it.deployment_id, it.name, names[it.cluster_id], it.tenant, it.priority, placed, one.status
        )
    show(shown)


def everything(views: Views) -> Iterator[Deployment]:
    """In the order of submission."""
    for number in count(1):
        deployment = views.deployments.numbered(number)
        if deployment is None:
            return
        yield deployment


def line(views: Views, deployment: Deployment) -> Line:
    if deployment.outcome is not None:
        return Line(deployment.outcome, 0, deployment)
    places = (views.scheduling.places(container_id) for container_id in deployment.containers)
    placed = sum(any(place.node_id for place in held) for held in places)
    status = "pending" if not placed else "running" if placed == deployment.replicas else "partial"
    return Line(status, placed, deployment)


@command.command()
@click.argument("name")
@click.option("--ref", help="What to run, as the machines know it.")
@click.option("--image", "image_id", metavar="IMAGE_ID", help="What to run, as the platform knows it.")
@click.option("--cluster", default="default", show_default=True, help="Where: an id or a name.")
@click.option("--replicas", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--cpu", type=CPU, help="Of each replica, as 0.5 or 500m.  [default: the image's, or 0.5]")
@click.option("--memory", type=MEMORY, help="Of each, as 512m or 1g.  [default: the image's, or 512m]")
@click.option("--gpus", type=click.IntRange(0, 10_000), help="Of each.  [default: the image's, or none]")
@click.option("--gpu-share", type=click.FloatRange(0, 1, min_open=True), help="Of one GPU, as 0.5.")
@click.option("--gpu-model", "gpu_models", multiple=True, help="One that will do; several may be given.")
@click.option("--priority", type=click.IntRange(0, 1000), default=PRIORITY, show_default=True)
@click.option("--gang", is_flag=True, help="All replicas at once, or none.")
@click.option("--not-preemptible", is_flag=True, help="It keeps its places, whoever is more urgent.")
@click.option("--job", "restart", flag_value="on_failure", help="Complete once all replicas end with 0.")
@click.option("--duration", type=DURATION, default=0, help="How long it usually runs, as 10m: for forecasts.")
@click.option("--port", type=click.IntRange(1, 65535), help="It listens on.  [default: the image's, or 8080]")
@click.option("--tenant", help="Whose it is.  [default: the image's, or the operator's own]")
@options.plan
@options.data
@options.nats
def submit(planned: bool, data_dir: Path, nats_url: str | None, **given: Any) -> None:
    """Have something run: each replica is placed now, or waits for its turn."""
    asked = Submission(**given)
    if (asked.ref is None) == (asked.image_id is None):
        raise click.UsageError("say what to run: either --ref or --image")
    options.run(_submit(asked, planned, data_dir, nats_url))


async def _submit(asked: Submission, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        wish = _wish(here.views, asked)
        if planned:
            show(say(f"To submit {wish.name}, for {wish.tenant}:"))
        await carry_out(here, wish, planned=planned)
        if planned:
            return
        deployment = named.deployment(here.views, wish.deployment_id)
        show(
            say(f"{wish.deployment_id} has been submitted: {wish.name}, for {wish.tenant}."),
            say(_standing(here.views, deployment)),
        )


def _wish(views: Views, asked: Submission) -> SubmitDeployment:
    share: dict[str, Any] = {
        "cpu_milli": asked.cpu,
        "memory_mib": asked.memory,
        "gpus": 1 if asked.gpus is None and asked.gpu_share is not None else asked.gpus,
        "gpu_milli": None if asked.gpu_share is None else max(1, round(asked.gpu_share * 1000)),
        "gpu_models": asked.gpu_models or None,
    }
    given = {name: amount for name, amount in share.items() if amount is not None}
    workload: dict[str, Any] = {"ref": asked.ref, "port": asked.port or PORT}
    tenant = named.tenant(views, asked.tenant) if asked.tenant else None
    if asked.image_id is not None:
        image = named.image(views, asked.image_id)
        given = {name: getattr(image.resources, name) for name in Share.__struct_fields__} | given
        workload = {
            "image_id": image.image_id,
            "ref": image.ref,
            "port": asked.port or image.port,
            "hostname": image.hostname,
        }
        tenant = tenant or image.tenant
    tenant = tenant or named.first_home(views)
    return SubmitDeployment(
        cluster_id=named.cluster(views, asked.cluster).cluster_id,
        deployment_id=f"dep_{token_hex(8)}",
        tenant=tenant,
        name=asked.name,
        owner=named.owner(views, tenant),
        at_ms=now_ms(),
        share=Share(**given),
        replicas=asked.replicas,
        priority=asked.priority,
        preemptible=not asked.not_preemptible,
        gang=asked.gang,
        duration_ms=asked.duration,
        restart=asked.restart or "always",
        **workload,
    )


def _living(views: Views, id: str) -> Deployment:
    deployment = named.deployment(views, id)
    if deployment.outcome is not None:
        raise click.ClickException(
            f"{id} has been {deployment.outcome}: see `stratus deployments` for those that live"
        )
    return deployment


def _standing(views: Views, deployment: Deployment) -> str:
    """How far it has come, and where to read on."""
    found = line(views, deployment)
    if found.placed == deployment.replicas:
        return f"All of its {found.placed} replicas have a place." if found.placed > 1 else "It has a place."
    left = deployment.replicas - found.placed
    waits = "waits" if left == 1 else "wait"
    return (
        f"{found.placed} of {deployment.replicas} replicas have a place, {left} {waits}: "
        f"`stratus why {deployment.deployment_id}` tells why."
    )


@command.command()
@click.argument("deployment_id", metavar="ID")
@click.argument("replicas", type=click.IntRange(1, 1000))
@options.plan
@options.data
@options.nats
def scale(deployment_id: str, replicas: int, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    """Have more or fewer replicas."""
    options.run(_scale(deployment_id, replicas, planned, data_dir, nats_url))


async def _scale(id: str, replicas: int, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        deployment = _living(here.views, id)
        wish = ScaleDeployment(
            cluster_id=deployment.cluster_id,
            deployment_id=deployment.deployment_id,
            replicas=replicas,
            at_ms=now_ms(),
        )
        happened = await carry_out(here, wish, planned=planned)
        if planned:
            return
        now = named.deployment(here.views, id)
        before = "" if happened else ", as before"
        show(
            say(f"{id} shall have {replicas} {'replica' if replicas == 1 else 'replicas'} now{before}."),
            say(_standing(here.views, now)),
        )


@command.command()
@click.argument("deployment_id", metavar="ID")
@options.plan
@options.data
@options.nats
def complete(deployment_id: str, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    """It has done its work: its replicas stop, its places are free."""
    options.run(_end(deployment_id, "completed", planned, data_dir, nats_url))


@command.command()
@click.argument("deployment_id", metavar="ID")
@options.plan
@options.data
@options.nats
def cancel(deployment_id: str, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    """End it, running or not."""
    options.run(_end(deployment_id, "cancelled", planned, data_dir, nats_url))


async def _end(id: str, outcome: Outcome, planned: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        deployment = named.deployment(here.views, id)
        if deployment.outcome == outcome:
            show(say(f"{id} has been {outcome} already."))
            return
        _living(here.views, id)
        wish = EndDeployment(
            cluster_id=deployment.cluster_id,
            deployment_id=deployment.deployment_id,
            outcome=outcome,
            at_ms=now_ms(),
        )
        await carry_out(here, wish, planned=planned)
    if not planned:
        show(say(f"{id} has been {outcome}: its places are free."))
