"""Names: each name that must be unique is a stream of its own.

Whoever writes to it first holds it; no read model is ever asked.
"""

from __future__ import annotations

from typing import Literal, NewType
from urllib.parse import quote

from core.message import Command, Event, Rejection, Token

NameId = NewType("NameId", str)
Kind = Literal["username", "email", "organization", "hostname", "cluster", "deployment"]


def name_id(kind: Kind, name: str) -> NameId:
    """`hostname:web%2Eexample`: kind and name as one token of a subject.

    A name that is personal is passed in as its keyed hash (`core.vault`), never as itself.
    """
    return NameId(f"{kind}:{quote(name, safe='').replace('.', '%2E')}")


class ReserveName(Command):
    name_id: Token
    holder: Token


class ReleaseName(Command):
    name_id: Token
    holder: Token


class NameReserved(Event):
    name_id: NameId
    holder: str


class NameReleased(Event):
    name_id: NameId
    holder: str


class NameIsTaken(Rejection):
    """This name is taken."""


NamesCommand = ReserveName | ReleaseName
NamesEvent = NameReserved | NameReleased
