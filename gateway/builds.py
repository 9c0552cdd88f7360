"""What a build has said, and how it ended."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from gateway.database import LEDGER
from projections.builds import build_log as said
from projections.catalog import Image


class BuildLog(Struct, frozen=True):
    """`text` is the end of what was said; `reason` why it failed, if it did."""

    image_id: str
    status: str
    reason: str
    text: str


async def build_log(request: web.Request, image: Image, tail_chars: int) -> BuildLog:
    """Raises `Unavailable` while the database is away."""
    async with request.app[LEDGER].reading() as database:
        text = await said(database, image.image_id, tail_chars)
    return BuildLog(image.image_id, image.status, image.reason, text)
