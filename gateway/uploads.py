"""A multipart form with a file in it: the fields in memory, the file on disk, both bounded."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.refusals import Refused, invalid

FIELD_BYTES_MAX = 64 << 10
FIELDS_MAX = 50


@asynccontextmanager
async def form(request: web.Request, limit: int) -> AsyncIterator[tuple[dict[str, str], IO[bytes] | None]]:
    """The form's text fields, and its `file` at the start of its bytes; gone from disk at the end.

    Refuses a malformed form with 422 and a file of more than `limit` bytes with 413.
    """
    fields: dict[str, str] = {}
    with tempfile.TemporaryFile() as upload:
        try:
            found = await _read(request, fields, upload, limit)
        except (
            ValueError,
            LookupError,
            RuntimeError,
            HttpProcessingError,
        ) as no:  # what aiohttp's reader says of bad forms
            raise invalid("form", f"is not well-formed multipart/form-data: {no}") from no
        upload.seek(0)
        yield fields, upload if found else None


async def _read(request: web.Request, fields: dict[str, str], upload: IO[bytes], limit: int) -> bool:
    found = False
    parts = await request.multipart()
    while (part := await parts.next()) is not None:
        if not isinstance(part, BodyPartReader) or not part.name:
            raise invalid("form", "every part needs a name, and parts can not be nested")
        if part.name in fields or (part.name == "file" and found):
            raise invalid(part.name, "is given twice")
        if part.name == "file":
            found, size = True, 0
            while chunk := await part.read_chunk(1 << 18):
                size += len(chunk)
                if size > limit:
                    raise Refused(413, f"file: larger than {limit} bytes")
                await asyncio.to_thread(upload.write, chunk)
            continue
        raw = bytearray()
        while chunk := await part.read_chunk(1 << 13):
            raw += chunk
            if len(raw) > FIELD_BYTES_MAX:
                raise invalid(part.name, f"larger than {FIELD_BYTES_MAX} bytes")
        if len(fields) == FIELDS_MAX:
            raise invalid("form", f"more than {FIELDS_MAX} fields")
        fields[part.name] = raw.decode()
    return found
