"""All doors in one house: every route of every surface, behind the same checks."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from aiohttp import web, web_response

from core.commands import Commands
from core.log import Log
from core.questions import Questions
from core.vault import Vault
from gateway.admission import TOKENS, admission
from gateway.credentials import Tokens
from gateway.database import LEDGER, Ledger
from gateway.dialects.cloud import billing as cloud_billing
from gateway.dialects.cloud import catalog as cloud_catalog
from gateway.dialects.cloud import containers as cloud_containers
from gateway.dialects.cloud import identity as cloud_identity
from gateway.dialects.cloud import routing as cloud_routing
from gateway.dialects.hypervisor import deployments as hypervisor_deployments
from gateway.dialects.hypervisor import identity as hypervisor_identity
from gateway.dialects.hypervisor import scheduling as hypervisor_scheduling
from gateway.edge import QUIET, correlated, on_prepare, positioned, preflights
from gateway.feed import Feed
from gateway.identity import ATTEMPTS, FAILURES, PASSWORDS
from gateway.openapi import document
from gateway.passwords import Passwords
from gateway.policy import POLICY, Policy
from gateway.proxy import PROXY, Proxy, sites
from gateway.readers import BUS, COMMANDS, LOG, OBJECTS, QUESTIONS, VAULT, VIEWS, Asking, Keeping
from gateway.refusals import refusals
from gateway.routes import (
    billing,
    catalog,
    containers,
    deployments,
    events,
    fleet,
    identity,
    operations,
    routing,
    scheduling,
)
from gateway.routes.events import FEED, WATCHERS
from gateway.routes.operations import DOCUMENT, TITLE, own_version
from gateway.throttle import Throttle
from projections.views import Views

BODY_BYTES_MAX = 1 << 20

SURFACES = (
    identity,
    catalog,
    containers,
    fleet,
    scheduling,
    deployments,
    routing,
    billing,
    events,
    operations,
    cloud_identity,
    cloud_catalog,
    cloud_containers,
    cloud_routing,
    cloud_billing,
    hypervisor_identity,
    hypervisor_scheduling,
    hypervisor_deployments,
)


def make_app(
    *,
    commands: Commands,
    questions: Questions,
    views: Views,
    log: Log,
    vault: Vault,
    objects: Keeping,
    bus: Asking,
    ledger: Ledger,
    policy: Policy,
) -> web.Application:
    """The application. What it is given stays the giver's to run and to close."""
    keep_quiet()
    app = web.Application(
        middlewares=[correlated, sites, preflights, refusals, admission, positioned],
        client_max_size=BODY_BYTES_MAX,
    )
    app[COMMANDS], app[QUESTIONS], app[VIEWS] = commands, questions, views
    app[LOG], app[VAULT] = log, vault
    app[OBJECTS], app[BUS], app[LEDGER], app[POLICY] = objects, bus, ledger, policy
    app[TOKENS] = Tokens(policy.jwt_secret, policy.token_s)
    app[PASSWORDS] = Passwords()
    app[FAILURES] = Throttle(policy.logins_per_minute, 60)
    app[ATTEMPTS] = Throttle(policy.logins_per_minute_and_address, 60)
    app[FEED], app[WATCHERS] = Feed(log), Counter()
    described = [route for surface in SURFACES for route in surface.routes if isinstance(route, web.RouteDef)]
    app[DOCUMENT] = document(described, TITLE, own_version())
    app.add_routes(spelled_twice(described))
    app.on_response_prepare.append(on_prepare)
    app.cleanup_ctx.append(_proxying)
    app.cleanup_ctx.append(_feeding)
    app.on_shutdown.append(_let_watchers_go)
    return app


def keep_quiet() -> None:
    """What is too malformed to reach a middleware is answered by aiohttp itself; not in its name."""
    web_response.SERVER_SOFTWARE = QUIET  # type: ignore[attr-defined]  # it has no setting for this


def spelled_twice(routes: list[web.RouteDef]) -> Iterator[web.RouteDef]:
    """With and without a slash at the end: the former systems' clients say both."""
    for route in routes:
        yield route
        if route.path != "/" and not route.path.endswith("*}"):
            yield web.RouteDef(route.method, f"{route.path}/", route.handler, route.kwargs)


async def _let_watchers_go(app: web.Application) -> None:
    app[FEED].close()


async def _proxying(app: web.Application) -> AsyncIterator[None]:
    app[PROXY] = Proxy(app[VIEWS].routing, app[POLICY].upstream_head_s)
    yield
    await app[PROXY].close()


async def _feeding(app: web.Application) -> AsyncIterator[None]:
    await app[FEED].start()
    feeding = asyncio.create_task(app[FEED].follow())
    yield
    feeding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await feeding
