"""The whole story in a minute: an image becomes containers, traffic, money, and a log that proves it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from pathlib import Path

import click

from gateway.cli.demo.play import play
from gateway.cli.demo.stage import Failed, Stage


@click.command()
@click.option("--keep", is_flag=True, help="Keep the data directory, and say where it is.")
def command(keep: bool) -> None:
    """Deploy an app, scale it, hurt it, bill it and replay it.

    Everything runs in a data directory of its own, on a free port, and is gone
    afterwards. Exit code 0 means that every step held.
    """
    folder = Path(tempfile.mkdtemp(prefix="stratus-demo-"))
    began = time.monotonic()
    try:
        raise SystemExit(asyncio.run(_run(folder, began)))
    finally:
        if keep:
            click.echo(f"The data directory is {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _run(folder: Path, began: float) -> int:
    """Ctrl-C ends the play wherever it is; the stage is cleared all the same."""
    loop, playing = asyncio.get_running_loop(), asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, playing.cancel)
    stage = Stage(folder)
    try:
        await play(stage)
        click.echo(f"\nAll of it held, in {time.monotonic() - began:.0f} s.")
        return 0
    except Failed as failure:
        click.echo(f"\nFAILED: {failure}", err=True)
        await stage.show_logs()
        return 1
    except asyncio.CancelledError:
        click.echo("\nInterrupted; clearing the stage.", err=True)
        return 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await stage.clear()
