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


def _or_before(ctx: click.Context, param: click.Parameter, value: T) -> T:
    """What was given before a subcommand's name counts for the subcommand, too."""
    name, typed = param.name or "", click.core.ParameterSource.COMMANDLINE
    above = ctx.parent
    if above is None or ctx.get_parameter_source(name) is typed:
        return value
    return above.params[name] if above.get_parameter_source(name) is typed else value


data = click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".data"),
    envvar="STRATUS_DATA_DIR",
    show_default=True,
    callback=_or_before,
    help="Where the platform keeps everything.",
)
nats = click.option(
    "--nats",
    "nats_url",
    envvar="STRATUS_NATS_URL",
    callback=_or_before,
    help="The NATS server of a platform that runs elsewhere.",
)
json = click.option("--json", "as_json", is_flag=True, help="For programs.")
plan = click.option("--plan", "planned", is_flag=True, help="Only tell what it would come to; do nothing.")


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
        async with asyncio.timeout(3):  # 3.11's wait_for may swallow a cancellation
            await answers(url)
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
    """Ctrl-C ends it with 130; a no, or silence, with a sentence instead of a traceback."""
    from core import telemetry
    from core.commands import Declined
    from core.log import Unavailable

    telemetry.configure("cli", "warning", sys.stderr)  # standard output is for what was asked
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Declined as no:
        raise click.ClickException(no.reason) from None
    except Unavailable as error:
        raise click.ClickException(f"the platform does not answer: {error} (see `stratus doctor`)") from None
