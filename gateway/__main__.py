"""The gateway's process: ready once its projections are, gone without cutting anybody off."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import structlog
import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from core import telemetry
from core.bus import Bus, connect_when_up
from core.commands import CommandQueue
from core.jetstream import JetStreamLog
from core.objects import Objects
from core.questions import QuestionBus
from core.settings import Settings
from core.vault import JetStreamKeys, Vault
from gateway.application import make_app
from gateway.database import Ledger
from gateway.default_user import create_default_user
from gateway.policy import Policy
from projections.views import Views, follow
from projections.witness import testify

log = structlog.get_logger(__name__)

DRAIN_S = 5.0
REPLAY_S = 3600.0


def policy(settings: Settings) -> Policy:
    return Policy(
        jwt_secret=settings.jwt_secret,
        token_s=settings.token_minutes * 60,
        origins=settings.cors_origins,
        secure_cookies=settings.secure_cookies,
        own_hosts=frozenset({"localhost", settings.host.lower()}),
        open_on_loopback=settings.development,
    )


async def serve(settings: Settings, bus: Bus) -> int:
    """Until told to stop; the exit code. 1 when something that should go on for ever has ended."""
    history, views, ledger = JetStreamLog(bus), Views(), Ledger(settings.postgres_url)
    following = asyncio.create_task(follow(history, views), name="follow")
    connecting = asyncio.create_task(ledger.run(), name="database")
    await views.wait(await history.end(), REPLAY_S)
    app = make_app(
        commands=CommandQueue(bus, actor="gateway"),
        questions=QuestionBus(bus),
        views=views,
        log=history,
        vault=Vault(JetStreamKeys(bus), settings.vault_pepper.encode()),
        objects=Objects(bus),
        bus=bus,
        ledger=ledger,
        policy=policy(settings),
    )
    await testify(bus, views, "gateway")
    if settings.development:
        await create_default_user(app)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=DRAIN_S)
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port, reuse_port=True).start()
    asked_to_stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    log.info("ready", host=settings.host, port=settings.port, position=views.position)
    stopping = asyncio.create_task(asked_to_stop.wait(), name="stop")
    await asyncio.wait((stopping, following), return_when=asyncio.FIRST_COMPLETED)
    log.info("draining", seconds_max=DRAIN_S)
    await runner.cleanup()
    for task in (connecting, stopping):
        task.cancel()
    await ledger.close()
    if following.done():
        following.result()
        return 1
    following.cancel()
    return 0


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Anybody can send nonsense; nobody shall fill our log with it, or with what it contained."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


async def main() -> int:
    settings = Settings.read(os.environ)
    telemetry.configure("gateway", settings.log_level)
    logging.getLogger("aiohttp.server").addFilter(is_worth_a_line)
    bus = await connect_when_up(settings.nats_url, "gateway")
    try:
        return await serve(settings, bus)
    finally:
        await bus.close()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
