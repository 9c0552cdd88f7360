"""Every no, in the one shape clients know: `{"detail": ...}`, naming the field where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec
import structlog
from aiohttp import web

from core.commands import Declined
from core.log import Unavailable
from gateway.describe import Handler

log = structlog.get_logger(__name__)

KIND_STATUS = {"unknown": 404, "invalid": 422, "conflict": 409}
_PLACE = re.compile(r"^(?P<text>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_FIELD_NAMED = re.compile(r"(?:missing required|contains unknown) field `(?P<field>[^`]*)`")
_FIELD_FIRST = re.compile(r"(?P<field>[a-z_]+(?:\.[a-z_]+)*): (?P<text>.+)", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")


class Refused(Exception):
    """A no of the gateway's own."""

    def __init__(self, status: int, detail: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def invalid(field: str, text: str, *, place: str = "body", kind: str = "value_error") -> Refused:
    """A 422 about one field."""
    return Refused(422, [{"loc": [place, *field.split(".")], "msg": text, "type": kind}])


def malformed(no: msgspec.ValidationError, place: str = "body") -> Refused:
    """A 422 about the field that msgspec stumbled over."""
    found = _PLACE.match(str(no))
    assert found is not None  # the pattern takes any text
    text = found["text"]
    steps: list[str | int] = [place]
    for name, index in _STEP.findall(found["path"] or ""):
        steps.append(name or (int(index) if index.isdigit() else index))
    kind = "value_error"
    if named := _FIELD_NAMED.search(text):
        steps.append(named["field"])
        kind = "missing" if "missing" in text else "extra_forbidden"
    elif text.startswith("Expected `") and ", got " in text:
        kind = "type_error"
    return Refused(422, [{"loc": steps, "msg": text, "type": kind}])


@contextmanager
def answering(**statuses: int) -> Iterator[None]:
    """Within, the named rejections get another status: how a dialect keeps its own."""
    try:
        yield
    except Declined as no:
        if no.rejection not in statuses:
            raise
        raise Refused(statuses[no.rejection], no.reason) from no


def refusal_of(no: Exception) -> Refused | None:
    """The one place where exceptions become answers; None for what nobody foresaw."""
    match no:
        case Refused():
            return no
        case Declined(kind="invalid", reason=reason, rejection=rejection):
            if field := _FIELD_FIRST.fullmatch(reason):
                return invalid(field["field"], field["text"], kind=rejection)
            return Refused(422, [{"loc": ["body"], "msg": reason, "type": rejection}])
        case Declined(kind=kind, reason=reason):
            return Refused(KIND_STATUS[kind], reason)
        case msgspec.ValidationError():
            return malformed(no)
        case Unavailable():
            return Refused(503, str(no) or "try again soon", {"Retry-After": "1"})
        case web.HTTPException() if no.status >= 400:
            kept = {k: v for k, v in no.headers.items() if k in ("Allow", "Retry-After")}
            return Refused(no.status, _WORDS.get(no.status, no.reason), kept)
        case _:
            return None


_WORDS = {
    404: "There is nothing here.",
    405: "This method is not allowed here.",
    413: "The body is larger than it may be.",
}


def refuse(no: Refused) -> web.Response:
    body = msgspec.json.encode({"detail": no.detail})
    return web.Response(status=no.status, body=body, content_type="application/json", headers=no.headers)


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:
        no = refusal_of(error)
        if no is None:
            if isinstance(error, web.HTTPException | ConnectionResetError):
                raise
            log.exception("request failed", method=request.method, path=request.path)
            no = Refused(
                500, "Something went wrong here; the X-Correlation-ID of this answer finds out what."
            )
        return refuse(no)
