"""`stratus`: start the platform, look into it, check it.

A command's module is imported when that command is called, so the others do not
pay for it.
"""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "up": "Start the whole platform and keep it up, until Ctrl-C.",
    "status": "Show what runs.",
    "deployments": "Show what shall run; submit, scale and end it.",
    "why": "Tell why something is where it is, or waits.",
    "queue": "Show who waits for a place, and for how long.",
    "clusters": "Show what may be given out; create clusters, set quotas, repack.",
    "nodes": "Show the machines; cordon, drain and uncordon them.",
    "events": "Show what has happened, from the log.",
    "audit": "Check what the log proves.",
    "dead": "Look after commands nobody could decide.",
    "doctor": "Check everything the platform needs.",
    "env": "Print how to reach the platform's servers, for a shell.",
    "demo": "Deploy an app, scale it, hurt it, bill it and replay it.",
}

MODULES = {"queue": "waiting"}
"""Where it is not the command's own name, because the standard library has that."""


class Lazy(click.Group):
    """Command `x` is `command` in `gateway.cli.x`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"gateway.cli.{MODULES.get(cmd_name, cmd_name)}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="stratus", message="stratus %(version)s")
def main() -> None:
    """A cloud platform whose only memory is a log."""
