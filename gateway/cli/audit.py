"""Whether everything we show is what the log says: all of it made anew, from nothing, and compared."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import click

from core.bus import Bus
from core.jetstream import JetStreamLog
from core.log import Log
from gateway.cli import options
from projections.views import COLLECT, Views
from projections.witness import Testimony, question

ATTEMPTS = 20
"""To find Postgres and the tables made anew at the same position, while things go on happening."""


class Verdict(NamedTuple):
    """`held` is the hash of what runs now, `replayed` of the same made anew; both at `position`."""

    what: str
    where: str
    position: int
    held: str
    replayed: str

    @property
    def agrees(self) -> bool:
        return self.held == self.replayed


@click.group()
def command() -> None:
    """Check what the log proves."""


@command.command()
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
@options.data
@options.nats
@click.option("--postgres", "postgres_url", envvar="STRATUS_POSTGRES_URL", help="With --nats: its Postgres.")
def replay(quiet: bool, data_dir: Path, nats_url: str | None, postgres_url: str | None) -> None:
    """Rebuild every projection from nothing and compare it with the one in use.

    Runs beside the platform: in memory of its own, and in a schema of Postgres that
    is dropped afterwards. Exit code 1 if anything differs.
    """
    if nats_url is None:
        running = options.found(data_dir)
        nats_url, postgres_url = running.nats_url, running.postgres_url
    verdicts = options.run(_replay(nats_url, postgres_url, quiet))
    _show(verdicts)
    if not all(verdict.agrees for verdict in verdicts):
        click.echo("What is shown is NOT what the log says.", err=True)
        raise SystemExit(1)
    click.echo("The replay agrees.")


def _show(verdicts: Sequence[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("projection", "in", "position", "held", "replayed", "", box=None)
    for one in verdicts:
        mark = "[green]agrees[/green]" if one.agrees else "[red]DIFFERS[/red]"
        table.add_row(one.what, one.where, str(one.position), one.held[:12], one.replayed[:12], mark)
    Console(soft_wrap=True).print(table)


async def _replay(nats_url: str, postgres_url: str | None, quiet: bool) -> list[Verdict]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with options.connected(Path(), nats_url) as bus:
        with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
            memory = progress.add_task("in memory", total=None)
            verdicts = await in_memory(
                bus, lambda done, total: progress.update(memory, completed=done, total=total)
            )
            if postgres_url:
                stored = progress.add_task("in Postgres", total=None)
                verdicts += await in_postgres(JetStreamLog(bus), postgres_url)
                progress.update(stored, completed=1, total=1)
    return verdicts


async def in_memory(bus: Bus, progress: Callable[[int, int], None]) -> list[Verdict]:
    """Against what running processes say; if there are none, against a second replay."""
    history = JetStreamLog(bus)
    heard = await question(bus)
    end = await history.end()
    if not heard:
        click.echo("No process said what it believes: two replays are compared with each other.", err=True)
        heard = [Testimony("a second replay", end, (await _views(history, {end}, progress))[end])]
    replayed = await _views(history, {one.position for one in heard}, progress)
    return [
        Verdict(name, one.process, one.position, held, replayed[one.position].get(name, "missing"))
        for one in heard
        for name, held in one.fingerprints.items()
    ]


async def _views(
    history: Log, positions: set[int], progress: Callable[[int, int], None]
) -> dict[int, dict[str, str]]:
    """The fingerprints at each of these positions, from nothing."""
    views, found, last = Views(), {}, max(positions)
    gc.set_threshold(*COLLECT)
    if 0 in positions:
        found[0] = views.fingerprints()
    if last == 0:
        return found
    async with aclosing(history.follow()) as batches:
        async for batch in batches:
            for recorded in batch:
                views.apply(recorded)
                if recorded.position in positions:
                    found[recorded.position] = views.fingerprints()
                if recorded.position >= last:
                    progress(last, last)
                    return found
            progress(views.position, last)
    return found


async def in_postgres(history: Log, url: str) -> list[Verdict]:
    """Against tables made anew in a schema of their own."""
    from projections.database import connect, migrate
    from projections.rebuild import fingerprint, projections, rebuild
    from projections.runtime import Projector

    schema = f"replay_{uuid4().hex[:12]}"
    live = await connect(url, connections_max=2)
    try:
        await live.execute(f"create schema {schema}")
        try:
            anew = await connect(url, schema=schema, connections_max=2)
            try:
                await migrate(anew)
                await rebuild(anew, history)
                for _ in range(ATTEMPTS):
                    held, replayed = await fingerprint(live), await fingerprint(anew)
                    if held.position == replayed.position:
                        break
                    await Projector(anew, history, projections()).catch_up(held.position)
            finally:
                await anew.close()
        finally:
            await live.execute(f"drop schema {schema} cascade")
    finally:
        await live.close()
    if held.position != replayed.position:
        raise click.ClickException("Postgres could not be found at rest: try again when less happens")
    return [Verdict("tables", "Postgres", held.position, held.sha256, replayed.sha256)]
