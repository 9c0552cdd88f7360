"""What a route says about itself: who may call it, what goes in, what comes out.

Admission and the OpenAPI document both read it, so they can not disagree. A
route that says nothing is for signed-in callers only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from aiohttp import web
from msgspec import Struct

Access = Literal["public", "caller", "operator"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Callable[..., Any])


class Query(Struct, frozen=True):
    name: str
    kind: Any
    about: str = ""


class Operation(Struct, frozen=True):
    """`filled` names the fields of `body` that the gateway fills in itself.

    With `?plan=true` the answer is a `plan`, where there is one, and nothing is done.
    """

    summary: str
    access: Access = "caller"
    body: Any = None
    filled: tuple[str, ...] = ()
    answer: Any = None
    status: int = 200
    media: str = "application/json"
    errors: tuple[int, ...] = ()
    query: tuple[Query, ...] = ()
    multipart: bool = False
    plan: Any = None


PAGING = (
    Query("limit", int, "how many at most, 1 to 1000; 100 if not given"),
    Query("after", int, "the `next` of the page before"),
)
PLAN = Query("plan", bool, "`true`: only tell what it would come to, with status 200; nothing is done")
_ATTRIBUTE = "stratus_operation"
_SILENT = Operation("")


def describe(
    summary: str,
    *,
    access: Access = "caller",
    body: Any = None,
    filled: tuple[str, ...] = (),
    answer: Any = None,
    status: int = 200,
    media: str = "application/json",
    errors: tuple[int, ...] = (),
    query: tuple[Query, ...] = (),
    multipart: bool = False,
    plan: Any = None,
) -> Callable[[H], H]:
    if plan is not None:
        query = (*query, PLAN)
    operation = Operation(
        summary, access, body, filled, answer, status, media, errors, query, multipart, plan
    )

    def note(handler: H) -> H:
        setattr(handler, _ATTRIBUTE, operation)
        return handler

    return note


def operation_of(handler: object) -> Operation:
    found = getattr(handler, _ATTRIBUTE, _SILENT)
    assert isinstance(found, Operation)
    return found
