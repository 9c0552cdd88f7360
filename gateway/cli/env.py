"""How to reach the servers of a platform that runs here: `eval "$(stratus env)"`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from gateway.cli import options


@click.command()
@options.data
def command(data_dir: Path) -> None:
    """Print how to reach the platform's servers, for a shell. The addresses hold credentials."""
    running = options.found(data_dir)
    for name, value in {
        "STRATUS_URL": running.url,
        "STRATUS_NATS_URL": running.nats_url,
        "STRATUS_POSTGRES_URL": running.postgres_url,
        "STRATUS_DOCKER_URL": running.docker_url or "none",
    }.items():
        click.echo(f"export {name}={quote(value)}")
