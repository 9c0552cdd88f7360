"""What every route shares: reading a message, sending a command, answering once the write can be read."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from core.contexts import stream_of
from core.log import Unavailable
from core.message import Command
from gateway.caller import CALLER, Caller
from gateway.policy import POLICY
from gateway.readers import COMMANDS, VIEWS
from gateway.refusals import Refused, invalid, malformed

M = TypeVar("M", bound=Struct)
T = TypeVar("T")

CORRELATION = web.RequestKey("correlation", str)
POSITION = web.RequestKey("position", int)
PAGE_MAX = 1000


class Page(Struct, Generic[T], frozen=True):
    """`next` goes into `after` to get what follows; null at the end."""

    items: list[T]
    next: int | None


class Message(Struct, frozen=True):
    message: str


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def fields(request: web.Request) -> dict[str, Any]:
    """The request's JSON object. Refuses another content type with 415, other JSON with 422."""
    if request.content_type != "application/json" and not request.content_type.endswith("+json"):
        raise Refused(415, "Send a JSON object, with Content-Type: application/json.")
    raw = await request.read()
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.ValidationError as no:
        raise malformed(no) from no
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as no:
        text = "JSON is nested too deeply" if isinstance(no, RecursionError) else str(no)
        raise Refused(422, [{"loc": ["body"], "msg": text, "type": "json_invalid"}]) from no


def message(kind: type[M], given: dict[str, Any], **filled: Any) -> M:
    """The given fields as a message, completed with what the edge alone may say (ids, times, owners)."""
    for name in given:
        if name in filled or name == "type":
            raise malformed(msgspec.ValidationError(f"Object contains unknown field `{name}`"))
    if kind.__struct_config__.tag is not None:
        filled["type"] = kind.__struct_config__.tag
    return msgspec.convert({**given, **filled}, kind)


def known(kind: type[M], given: dict[str, Any]) -> M:
    """As much of the fields as a dialect knows; the former systems passed over the rest, so do we."""
    fields = {name: given[name] for name in kind.__struct_fields__ if name in given}
    return msgspec.convert(fields, kind)


async def body(request: web.Request, kind: type[M], **filled: Any) -> M:
    return message(kind, await fields(request), **filled)


def caller_of(request: web.Request) -> Caller:
    """Who asks. Only for routes that are not public."""
    return request[CALLER]


def new_id(request: web.Request, prefix: str, index: int = 0) -> str:
    """`img_` and 16 hex digits: random, or the same each time for the same Idempotency-Key."""
    seed = idempotency(request)
    if seed is None:
        return f"{prefix}_{secrets.token_hex(8)}"
    return f"{prefix}_{hashlib.sha256(f'{seed}|{prefix}|{index}'.encode()).hexdigest()[:16]}"


async def send(request: web.Request, command: Command, tenant: str) -> int:
    """Have the command decided, and wait until this gateway's projections show it.

    Raises `Declined` or `Unavailable`.
    """
    caller = request.get(CALLER)
    seed, command_id = idempotency(request), None
    if seed is not None:
        about = f"{seed}|{stream_of(command, tenant)}|{type(command).__name__}"
        command_id = hashlib.sha256(about.encode()).hexdigest()[:32]
    position = await request.app[COMMANDS].send(
        command,
        tenant,
        actor=caller.actor if caller else "anonymous",
        correlation=request[CORRELATION],
        command_id=command_id,
    )
    request[POSITION] = max(position, request.get(POSITION, 0))
    await reached(request, position)
    return position


async def reached(request: web.Request, position: int) -> None:
    try:
        await request.app[VIEWS].wait(position, request.app[POLICY].settle_s)
    except TimeoutError:
        raise Unavailable(f"position {position} can not be read here yet; try again soon") from None


def reply(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def paging(request: web.Request) -> tuple[int, int]:
    """How many at most, and the number after which they begin."""
    return (
        whole(request, "limit", 100, least=1, most=PAGE_MAX),
        whole(request, "after", 0, least=0, most=1 << 53),
    )


def page(request: web.Request, things: Sequence[T], number: Callable[[T], int]) -> Page[T]:
    """The asked-for part of `things`, which are in the order of `number`."""
    limit, after = paging(request)
    items = [thing for thing in things if number(thing) > after][: limit + 1]
    more = len(items) > limit
    return Page(items[:limit], number(items[limit - 1]) if more else None)


def whole(request: web.Request, name: str, default: int, *, least: int, most: int) -> int:
    """A whole number out of the query; 422 for anything else."""
    raw = request.query.get(name)
    if raw is None:
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) < 18 and least <= int(raw) <= most):
        raise invalid(name, f"must be a whole number from {least} to {most}", place="query")
    return int(raw)


def idempotency(request: web.Request) -> str | None:
    """What makes this request the same as an earlier one, None if it does not claim to be repeatable."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:
        raise invalid("Idempotency-Key", "must have 1 to 255 characters", place="header")
    caller = request.get(CALLER)
    return f"{caller.actor if caller else ''}|{request.method} {request.path}|{key}"
