"""What stands behind the doors, by the key under which a route finds it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from typing import Protocol

from aiohttp import web

from core.commands import Commands
from core.log import Log
from core.objects import Stored
from core.questions import Questions
from core.vault import Vault
from projections.views import Views


class Asking(Protocol):
    """`core.bus.Bus`, as far as a route needs it."""

    async def request(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, timeout: float = 5.0
    ) -> tuple[dict[str, str], bytes]: ...


class Keeping(Protocol):
    """`core.objects.Objects`, as far as an upload needs it."""

    async def put(self, name: str, chunks: AsyncIterable[bytes], limit: int) -> Stored: ...

    async def delete(self, name: str) -> None: ...


COMMANDS = web.AppKey("commands", Commands)
QUESTIONS = web.AppKey("questions", Questions)
VIEWS = web.AppKey("views", Views)
LOG = web.AppKey("log", Log)
VAULT = web.AppKey("vault", Vault)
BUS = web.AppKey("bus", Asking)
OBJECTS = web.AppKey("objects", Keeping)
