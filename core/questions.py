"""Asking what would happen, or why something is so: answered from the log, and nothing is written.

Any handler process can answer; whichever is asked reads the stream for it.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Struct

from core.bus import Bus
from core.commands import Declined, Refusal
from core.contexts import COMMAND, EVENT, QUESTION, Stream, stream_of
from core.message import Command, Question

SUBJECT = "ask"
QUEUE = "handlers"


class Asked(Struct, frozen=True, omit_defaults=True):
    """`plan` is a command that shall be decided but not done, `question` is asked of the state after it.

    With `at`, a position in the log, it is asked of the state before the commit that is there.
    """

    plan: COMMAND | None = None
    question: QUESTION | None = None
    at: int | None = None


class Told(Struct, frozen=True, omit_defaults=True):
    """`events` are what the planned command would lead to, `answer` is the question's.

    `position` is the stream's last commit that was taken into account, 0 for none.
    """

    position: int = 0
    events: list[EVENT] = []
    answer: msgspec.Raw = msgspec.Raw(b"null")
    refusal: Refusal | None = None


class Questions(Protocol):
    async def ask(
        self,
        tenant: str,
        *,
        plan: Command | None = None,
        question: Question | None = None,
        at: int | None = None,
    ) -> Told:
        """What would come of a command, or the answer to a question, or both; about one stream.

        Raises `Declined` as the command would, and `core.log.Unavailable`.
        """
        ...


def subject_of(stream: Stream) -> str:
    return f"{SUBJECT}.{stream}"


def about(tenant: str, plan: Command | None, question: Question | None) -> Stream:
    message = plan or question
    if message is None:
        raise ValueError("neither a plan nor a question")
    return stream_of(message, tenant)


def told(answer: Told) -> Told:
    """Raises `Declined` for a refusal."""
    if answer.refusal is not None:
        raise Declined(answer.refusal.rejection, answer.refusal.kind, answer.refusal.reason)
    return answer


class QuestionBus:
    def __init__(self, bus: Bus, timeout_s: float = 10.0) -> None:
        self._bus, self._timeout_s = bus, timeout_s

    async def ask(
        self,
        tenant: str,
        *,
        plan: Command | None = None,
        question: Question | None = None,
        at: int | None = None,
    ) -> Told:
        stream = about(tenant, plan, question)
        body = _encode(Asked(plan, question, at))
        _, data = await self._bus.ask(subject_of(stream).encode(), body, timeout=self._timeout_s)
        return told(_decode(data))


_encode = msgspec.json.Encoder(order="sorted").encode
_decode: Any = msgspec.json.Decoder(Told).decode
decode_asked = msgspec.json.Decoder(Asked).decode
