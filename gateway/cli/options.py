"""What several commands take, and how they find the platform they are about."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from core.bus import Bus
    from core.services.running import Running

T = TypeVar("T")

data = click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".data"),
    envvar="STRATUS_DATA_DIR",
    show_default=True,
    help="Where the platform keeps everything.",
)
nats = click.option(
    "--nats",
    "nats_url",
    envvar="STRATUS_NATS_URL",
    help="The NATS server of a platform that runs elsewhere.",
)


def found(data_dir: Path) -> Running:
    """The platform that runs in this data directory. Raises `click.ClickException` if none does."""
    from core.services.running import Running

    running = Running.read(data_dir)
    if running is None or not running.supervisor.lives:
        raise click.ClickException(
            f"no platform runs in {data_dir.absolute()}: start one with `stratus up`, or name its --data"
        )
    return running


@asynccontextmanager
async def connected(data_dir: Path, nats_url: str | None) -> AsyncIterator[Bus]:
    """A connection to the platform's NATS server. Raises `click.ClickException`."""
    from nats.errors import Error

    from core.bus import Bus
    from core.services.nats import answers
    from core.services.supervisor import Fatal

    url = nats_url or found(data_dir).nats_url
    try:
        await asyncio.wait_for(answers(url), 3)
        bus = await Bus.connect(url, "stratus-cli")
    except Fatal as error:
        raise click.ClickException(str(error)) from None
    except (OSError, TimeoutError, ValueError, Error):
        raise click.ClickException(
            f"NATS does not answer at {url.rpartition('@')[2]}: see `stratus doctor`"
        ) from None
    try:
        yield bus
    finally:
        await bus.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Ctrl-C ends it with 130, and the log's silence with a sentence instead of a traceback."""
    from core import telemetry
    from core.log import Unavailable

    telemetry.configure("cli", "warning", sys.stderr)  # standard output is for what was asked
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Unavailable as error:
        raise click.ClickException(f"the log does not answer: {error}") from None
