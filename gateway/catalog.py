"""Images at the door: registering a reference or an upload, launching, deleting. Shared by every surface."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from secrets import token_hex
from typing import IO, Any

from aiohttp import web

from core.archives import ArchiveRefused, Limits, examine
from core.commands import Declined
from core.hostname import is_address, normalise
from core.messages.catalog import (
    Archive,
    DeleteImage,
    Instance,
    LaunchInstances,
    Reference,
    RegisterImage,
    SavedImage,
)
from core.objects import TooLarge
from gateway.caller import Caller
from gateway.exchange import idempotency, message, new_id, now_ms, send
from gateway.policy import POLICY
from gateway.readers import OBJECTS, VIEWS
from gateway.refusals import Refused, invalid
from projections.catalog import Image

_UNNAMEABLE = re.compile(r"[^a-z0-9]+")
NAME_MAX = 60


def image_of(request: web.Request, caller: Caller, image_id: str) -> Image:
    """The caller's image; 404 for anybody else's as for none."""
    image = request.app[VIEWS].catalog.image(image_id)
    if image is None or image.tenant not in caller.tenants:
        raise Refused(404, "There is no such image.")
    return image


def images_of(request: web.Request, caller: Caller) -> list[Image]:
    """In the order they were registered."""
    return sorted(request.app[VIEWS].catalog.of(caller.tenants), key=lambda image: image.ordinal)


def site(request: web.Request, raw: str, field: str = "hostname") -> str:
    """A hostname that may be taken for a site: no address, and none of the platform's own."""
    try:
        hostname = normalise(raw)
    except ValueError as no:
        raise invalid(field, str(no)) from no
    if is_address(hostname) or hostname.removeprefix("www.") in request.app[POLICY].own_hosts:
        raise invalid(field, "must be a name that is not the platform's own")
    return hostname


async def register_reference(
    request: web.Request, caller: Caller, given: dict[str, Any], field: str = "hostname"
) -> Image:
    """An image the engine has; `given` are the fields of `RegisterImage`, with any spelling of a hostname."""
    command = _command(request, caller, given, field, new_id(request, "img"))
    if not isinstance(command.source, Reference):
        raise invalid("source", "must be a Reference; archives are uploaded as multipart/form-data")
    return await _register(request, caller, command, field)


async def register_upload(
    request: web.Request, caller: Caller, given: dict[str, Any], upload: IO[bytes], field: str = "hostname"
) -> Image:
    """An image to build from, or load out of, an archive. 400 names what is wrong with the archive."""
    image_id, objects = new_id(request, "img"), request.app[OBJECTS]
    if idempotency(request) and request.app[VIEWS].catalog.image(image_id):
        return image_of(request, caller, image_id)  # sent again: it is stored already
    limit = request.app[POLICY].upload_bytes
    try:
        found = await asyncio.to_thread(examine, upload, Limits(packed_bytes=limit))
    except ArchiveRefused as no:
        raise Refused(400, f"file: {no}") from no
    kind, name = Archive if found.kind == "build" else SavedImage, f"upl_{token_hex(8)}"

    def command(sha256: str, size: int) -> RegisterImage:
        source = kind(object=name, sha256=sha256, bytes=size)
        return _command(request, caller, {**given, "source": source}, field, image_id)

    command("0" * 64, 0)  # so that what is wrong with the fields is said before anything is stored
    try:
        stored = await objects.put(name, _chunks(upload), limit)
    except TooLarge as no:
        raise Refused(413, f"file: {no}") from no
    try:
        return await _register(request, caller, command(stored.sha256, stored.bytes), field)
    except Declined:
        await objects.delete(name)
        raise


async def launch(request: web.Request, caller: Caller, image: Image, count: int, name: str) -> list[str]:
    """Ask for `count` more instances, at least `min_instances` in all; the ids of those there was room for.

    Raises `Declined`: ImageIsFull, ImageIsNotReady.
    """
    offered = max(count, image.min_instances - len(image.instances))
    base = _UNNAMEABLE.sub("-", name.lower()).strip("-")[:NAME_MAX].rstrip("-") or "container"
    ids = [new_id(request, "ctr", index) for index in range(offered)]
    instances = tuple(Instance(container_id=one, name=f"{base}-{one[-8:]}") for one in ids)
    command = LaunchInstances(image_id=image.image_id, instances=instances, by=caller.user_id, at_ms=now_ms())
    await send(request, command, image.tenant)
    launched = request.app[VIEWS].catalog.image(image.image_id)
    return [one for one in ids if launched and one in launched.instances]


async def delete(request: web.Request, image: Image) -> None:
    await send(request, DeleteImage(image_id=image.image_id, at_ms=now_ms()), image.tenant)


def _command(
    request: web.Request, caller: Caller, given: dict[str, Any], field: str, image_id: str
) -> RegisterImage:
    hostname = given.get("hostname")
    if isinstance(hostname, str):
        given = {**given, "hostname": site(request, hostname, field)}
    return message(RegisterImage, given, image_id=image_id, owner=caller.user_id, at_ms=now_ms())


async def _register(request: web.Request, caller: Caller, command: RegisterImage, field: str) -> Image:
    with _naming(field):
        await send(request, command, caller.home)
    return image_of(request, caller, command.image_id)


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """The only name an image reserves is its hostname: say so."""
    try:
        yield
    except Declined as no:
        if no.rejection != "NameIsTaken":
            raise
        raise Declined(no.rejection, no.kind, f"{field}: this hostname is taken.") from no


async def _chunks(upload: IO[bytes]) -> AsyncIterator[bytes]:
    await asyncio.to_thread(upload.seek, 0)
    while chunk := await asyncio.to_thread(upload.read, 1 << 20):
        yield chunk
