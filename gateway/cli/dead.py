"""Commands nobody could decide: which, why, and another chance."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from core import dead
from gateway.cli import options


@click.group()
def command() -> None:
    """Look after commands nobody could decide.

    A command that failed five times is parked with its reason; those behind it went on.
    """


@command.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@options.data
@options.nats
def list_(limit: int, data_dir: Path, nats_url: str | None) -> None:
    """Show them, the newest first."""
    options.run(_list(limit, data_dir, nats_url))


async def _list(limit: int, data_dir: Path, nats_url: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    async with options.connected(data_dir, nats_url) as bus:
        parked = await dead.listed(bus, limit)
    if not parked:
        click.echo("No command is parked.")
        return
    table = Table("number", "command", "about", "actor", "reason", box=None)
    for one in parked:
        _, *about, name = one.subject.split(".")
        table.add_row(str(one.sequence), name, ".".join(about), one.actor, one.reason)
    Console(soft_wrap=True).print(table)
    click.echo("`stratus dead show NUMBER` shows one, `stratus dead redrive NUMBER` tries it again.")


@command.command()
@click.argument("number", type=click.IntRange(1))
@options.data
@options.nats
def show(number: int, data_dir: Path, nats_url: str | None) -> None:
    """Show everything about one, as JSON."""
    click.echo(options.run(_show(number, data_dir, nats_url)))


async def _show(number: int, data_dir: Path, nats_url: str | None) -> str:
    async with options.connected(data_dir, nats_url) as bus:
        one = await dead.parked(bus, number)
    if one is None:
        raise click.ClickException(f"nothing is parked at {number}: see `stratus dead list`")
    said = {**msgspec.structs.asdict(one), "body": msgspec.Raw(one.body)}
    try:
        return msgspec.json.format(msgspec.json.encode(said), indent=2).decode()
    except msgspec.DecodeError:  # what it was parked for may be that it is no JSON
        said["body"] = one.body.decode(errors="replace")
        return msgspec.json.format(msgspec.json.encode(said), indent=2).decode()


@command.command()
@click.argument("numbers", type=click.IntRange(1), nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@options.data
@options.nats
def redrive(numbers: tuple[int, ...], every: bool, data_dir: Path, nats_url: str | None) -> None:
    """Put commands back onto the queue."""
    if bool(numbers) == every:
        raise click.UsageError("name the numbers of parked commands, or --all")
    options.run(_redrive(numbers, every, data_dir, nats_url))


async def _redrive(numbers: tuple[int, ...], every: bool, data_dir: Path, nats_url: str | None) -> None:
    missing = []
    async with options.connected(data_dir, nats_url) as bus:
        if every:
            numbers = tuple(one.sequence for one in reversed(await dead.listed(bus, 1_000_000)))
        for number in numbers:
            one = await dead.parked(bus, number)
            if one is None:
                missing.append(number)
                continue
            await dead.redrive(bus, one)
            click.echo(f"{number}: {one.subject} is on the queue again ({_now()})")
    if missing:
        raise click.ClickException(f"nothing is parked at {', '.join(map(str, missing))}")


def _now() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S UTC")
