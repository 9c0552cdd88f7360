"""The map of the platform: every context, its language, and whose it is.

Subjects and decoders are all derived from this one table. To add a context,
add its messages module, a line here, and its decider in `handlers`.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any, NamedTuple, get_args

from msgspec import Struct
from msgspec.structs import fields

from core.message import Command, Event, Question
from core.messages import billing, catalog, containers, explanations, fleet, identity, names, scheduling

PLATFORM = "_"
"""The tenant of what belongs to no organisation: people, names, machines, prices."""


class Context(Struct, frozen=True):
    """`shared` contexts live under the platform's own tenant, the others under their owner's."""

    name: str
    commands: Any
    events: Any
    shared: bool = False
    questions: Any = ()


CONTEXTS = (
    Context("identity", identity.IdentityCommand, identity.IdentityEvent, shared=True),
    Context("names", names.NamesCommand, names.NamesEvent, shared=True),
    Context("catalog", catalog.CatalogCommand, catalog.CatalogEvent),
    Context("fleet", fleet.FleetCommand, fleet.FleetEvent, shared=True),
    Context(
        "scheduling",
        scheduling.SchedulingCommand,
        scheduling.SchedulingEvent,
        shared=True,
        questions=explanations.SchedulingQuestion,
    ),
    Context("containers", containers.ContainersCommand, containers.ContainersEvent),
    Context("billing", billing.BillingCommand, billing.BillingEvent, shared=True),
)

_HOME: dict[type, Context] = {
    message: context
    for context in CONTEXTS
    for union in (context.commands, context.events, context.questions)
    for message in get_args(union) or (union,)
    if union
}
_KEY: dict[type, str] = {message: fields(message)[0].name for message in _HOME}


class Stream(NamedTuple):
    """The history of one thing, and the address of every message about it."""

    tenant: str
    context: str
    key: str

    def __str__(self) -> str:
        return f"{self.tenant}.{self.context}.{self.key}"

    @property
    def events(self) -> str:
        return f"evt.{self.tenant}.{self.context}.{self.key}"


def stream_of(message: Command | Event | Question, tenant: str) -> Stream:
    """`org_7.containers.c_1`: the history this message is about, on behalf of `tenant`."""
    context = _HOME[type(message)]
    owner = PLATFORM if context.shared else tenant
    return Stream(owner, context.name, getattr(message, _KEY[type(message)]))


def command_subject(command: Command, tenant: str) -> str:
    """`cmd.org_7.containers.c_1.StopContainer`: down to the very name of the class."""
    return f"cmd.{stream_of(command, tenant)}.{type(command).__name__}"


COMMAND: Any = reduce(or_, (context.commands for context in CONTEXTS))
"""Any command of any context, for decoders."""

EVENT: Any = reduce(or_, (context.events for context in CONTEXTS))
"""Any event of any context, for decoders."""

QUESTION: Any = reduce(or_, (context.questions for context in CONTEXTS if context.questions))
"""Any question that can be asked of any context, for decoders."""
