"""Names decides who holds a name: whoever asked first, until they give it back."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict

from core.decider import Decider
from core.messages.names import (
    NameIsTaken,
    NameReleased,
    NameReserved,
    NamesCommand,
    NamesEvent,
    ReleaseName,
    ReserveName,
)


class Name(Struct, frozen=True):
    """A name and who holds it; nobody, before its first reservation and after each release."""

    holder: str | None = None


def decide(command: NamesCommand, name: Name) -> list[NamesEvent]:
    match command:
        case ReserveName(holder=holder):
            if name.holder == holder:
                return []
            if name.holder is not None:
                raise NameIsTaken
            return [NameReserved(**asdict(command))]

        case ReleaseName(holder=holder):
            return [NameReleased(**asdict(command))] if name.holder == holder else []


def evolve(name: Name, event: NamesEvent) -> Name:
    match event:
        case NameReserved(holder=holder):
            return Name(holder)
        case NameReleased():
            return Name()


decider = Decider(Name(), decide, evolve)
