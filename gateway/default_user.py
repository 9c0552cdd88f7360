"""The user everybody knows, so that trying things out needs no sign-up. Never outside of development."""

from __future__ import annotations

import structlog
from aiohttp import web

from core.commands import Declined
from core.contexts import PLATFORM
from core.log import Unavailable
from gateway.identity import registration
from gateway.readers import COMMANDS, VIEWS

log = structlog.get_logger(__name__)

USER_ID = "usr_000000000000de40"
"""Fixed, so that gateways that start together make one user and not two."""
USERNAME, EMAIL, PASSWORD = "example", "example@gmail.com", "example123"


async def create_default_user(app: web.Application) -> None:
    """Only when there is no user at all. That it fails stops nothing."""
    if app[VIEWS].identity.users:
        return
    try:
        command = await registration(app, USER_ID, USERNAME, PASSWORD, EMAIL)
        position = await app[COMMANDS].send(command, PLATFORM, actor="gateway")
        await app[VIEWS].wait(position, 5.0)
    except (Declined, Unavailable, TimeoutError) as no:
        log.warning("no default user", reason=str(no))
        return
    log.warning("development: anybody can sign in", username=USERNAME, email=EMAIL)
