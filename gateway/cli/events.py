"""What has happened, straight from the log: it needs NATS and nothing else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from core.bus import Bus
from core.contexts import Stream
from core.jetstream import last_sequence
from core.log import Recorded, decode
from core.reader import Reader
from gateway.cli import options
from gateway.cli.times import UNITS_MS

SUBJECT = re.compile(r"(?:evt\.)?(?:[A-Za-z0-9_:%~*-]+)(?:\.[A-Za-z0-9_:%~*-]+)*(?:\.>)?|>")


class Row(msgspec.Struct, frozen=True):
    """One event as `--json` prints it."""

    position: int
    at_ms: int
    tenant: str
    context: str
    key: str
    event: Any
    actor: str
    correlation: str
    command: str


def rows(recorded: Recorded) -> Iterator[Row]:
    for decision in recorded.commit.decisions:
        for event in decision.events:
            yield Row(
                recorded.position,
                recorded.at_ms,
                *recorded.stream,
                event,
                decision.actor,
                decision.correlation,
                decision.command,
            )


def line(row: Row) -> str:
    at = datetime.fromtimestamp(row.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    said = msgspec.to_builtins(row.event)
    about = " ".join(f"{name}={_short(value)}" for name, value in list(said.items())[2:])
    stream = f"{row.tenant}.{row.context}.{row.key}"
    who = f"{row.actor} {row.correlation[:8]}"
    return f"{row.position:>8}  {at}  {said['type']:<20} {stream:<44} {who:<30} {about}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:37]}..."


def filter_of(subject: str) -> str:
    """A pattern over `tenant.context.key`, completed: `*.containers` becomes `evt.*.containers.*`.

    Raises `click.BadParameter`.
    """
    if not SUBJECT.fullmatch(subject):
        raise click.BadParameter(
            "tenant.context.key, with * for any and > for all that follow", param_hint="--subject"
        )
    parts = subject.removeprefix("evt.").split(".")
    if parts[-1] == ">":
        parts.pop()
    if len(parts) > 3:
        raise click.BadParameter("a subject has three parts: tenant.context.key", param_hint="--subject")
    return ".".join(["evt", *parts, *["*"] * (3 - len(parts))])


async def position_at(bus: Bus, since: str, now_ms: int) -> int:
    """The position to read after: of a position, an age (`90s`, `2h`) or a moment (ISO 8601, UTC).

    Raises `click.BadParameter`.
    """
    if since.isdecimal():
        return max(int(since) - 1, 0)
    if age := re.fullmatch(r"(\d{1,9})([smhd])", since):
        wanted = now_ms - int(age[1]) * UNITS_MS[age[2]]
    else:
        try:
            moment = datetime.fromisoformat(since)
        except ValueError:
            raise click.BadParameter(
                "a position (120), an age (90s, 5m, 2h, 1d) or a moment (2026-01-31T12:00)",
                param_hint="--since",
            ) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        wanted = int(moment.timestamp() * 1000)
    low, high = 0, await last_sequence(bus, "EVENTS")
    while low < high:  # nothing is ever deleted, so every position is there to be asked
        middle = (low + high + 1) // 2
        headers, _ = await bus.request("$JS.API.DIRECT.GET.EVENTS", b'{"seq":%d}' % middle)
        at = datetime.fromisoformat(headers["Nats-Time-Stamp"][:26].rstrip("Z") + "+00:00")
        if int(at.timestamp() * 1000) < wanted:
            low = middle
        else:
            high = middle - 1
    return low


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--subject", "-s", default=">", help="tenant.context.key with wildcards, as '*.containers'.")
@click.option("--since", default="0", help="A position (120), an age (5m) or a moment (2026-01-31T12:00).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@options.data
@options.nats
def command(
    follow: bool, subject: str, since: str, as_json: bool, data_dir: Path, nats_url: str | None
) -> None:
    """Show what has happened, from the log."""
    pattern = filter_of(subject)
    options.run(_show(data_dir, nats_url, pattern, since, follow, as_json))


async def _show(
    data_dir: Path, nats_url: str | None, pattern: str, since: str, follow: bool, as_json: bool
) -> None:
    async with options.connected(data_dir, nats_url) as bus:
        after = await position_at(bus, since, int(time.time() * 1000))
        end = await last_sequence(bus, "EVENTS")
        news: asyncio.Queue[Recorded] = asyncio.Queue()

        def take(sequence: int, at_ms: int, subject: bytes, head: bytes, body: bytes) -> None:
            stream = Stream(*subject.decode().split(".")[1:])
            news.put_nowait(Recorded(stream, sequence, at_ms, decode(body)))
            if news.qsize() > 10_000:
                reader.pause()

        left = None if follow else await _count(bus, pattern, after, end)
        reader = Reader(bus, "EVENTS", after, take, (pattern,))
        await reader.start()
        try:
            while left is None or left > 0:
                recorded = await news.get()
                if news.empty():
                    reader.resume()
                for row in rows(recorded):
                    click.echo(msgspec.json.encode(row) if as_json else line(row))
                left = None if left is None else left - 1
        finally:
            await reader.stop()


async def _count(bus: Bus, pattern: str, after: int, end: int) -> int:
    """How many commits of the pattern there are by now: a consumer knows before it reads any."""
    if after >= end:
        return 0
    config = {
        "name": f"count-{time.monotonic_ns()}",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": after + 1,
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 1_000_000_000,
        "filter_subjects": [pattern],
    }
    request = {"stream_name": "EVENTS", "action": "create", "config": config}
    subject = f"$JS.API.CONSUMER.CREATE.EVENTS.{config['name']}"
    _, answer = await bus.request(subject, msgspec.json.encode(request))
    return int(msgspec.json.decode(answer)["num_pending"])
