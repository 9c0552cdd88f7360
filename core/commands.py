"""Asking for something: put a command onto the queue, get the answer back."""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from core.message import Command

Kind = Literal["unknown", "invalid", "conflict"]


class Declined(Exception):
    """The command was understood, and declined; `rejection` is the name of the rejection's class."""

    def __init__(self, rejection: str, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.rejection, self.kind, self.reason = rejection, kind, reason


class Answer(Struct, frozen=True):
    position: int


class Commands(Protocol):
    async def send(
        self,
        command: Command,
        tenant: str,
        *,
        actor: str | None = None,
        correlation: str = "",
        command_id: str | None = None,
        timeout: float = 10.0,
    ) -> int:
        """The log position the wish is true at. Raises `Declined`, or `core.log.Unavailable`."""
        ...
