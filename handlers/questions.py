"""What would happen, and why something is so: decided and explained on a copy, with nothing written."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from nats.aio.msg import Msg

from core.bus import Bus
from core.contexts import Stream, stream_of
from core.decider import Decider
from core.log import Log, Unavailable, events_of
from core.message import Command, Question, Rejection
from core.questions import QUEUE, SUBJECT, Asked, Told, about, decode_asked, told
from handlers.aggregate import Aggregate
from handlers.runtime import Malformed, refusal

log = structlog.get_logger(__name__)

KEPT_MAX = 64
"""Streams whose state is kept from one question to the next."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Answers:
    def __init__(
        self, history: Log, deciders: Mapping[str, Decider[Any, Any, Any]], states: Mapping[str, Any]
    ) -> None:
        self._log, self._deciders = history, deciders
        self._decode = {name: msgspec.json.Decoder(shape).decode for name, shape in states.items()}
        self._kept: OrderedDict[Stream, Aggregate] = OrderedDict()
        self._busy: dict[Stream, asyncio.Lock] = {}

    async def answer(self, stream: Stream, asked: Asked) -> Told:
        """Raises `Unavailable`; a rejection is an answer."""
        decider = self._deciders[stream.context]
        async with self._busy.setdefault(stream, asyncio.Lock()):
            try:
                if asked.at is not None:
                    return await self._before(stream, decider, asked)
                aggregate = await self._current(stream)
                events: list[Any] = []
                state = aggregate.state
                if asked.plan is not None:
                    events = await self._planned(stream, decider, asked.plan, state)
                    if asked.question is not None and events:
                        state = aggregate.fold(self._copy(stream, state), events)
                answer = None if asked.question is None else decider.explain(asked.question, state, ())
                return Told(aggregate.position, events, msgspec.Raw(_encode(answer)))
            except Rejection as no:
                return Told(refusal=refusal(no))
            finally:
                if len(self._busy) > 2 * KEPT_MAX:
                    self._busy = {s: lock for s, lock in self._busy.items() if lock.locked()}

    async def _planned(
        self, stream: Stream, decider: Decider[Any, Any, Any], plan: Command, state: Any
    ) -> list[Any]:
        """What it would lead to in its stream; that nothing alongside stands against it is made sure of."""
        events = decider.decide(plan, state)
        if events:
            for wish in decider.alongside(plan, state):
                other = await self._current(stream_of(wish, stream.tenant))
                other.decider.decide(wish, other.state)
        return events

    async def _before(self, stream: Stream, decider: Decider[Any, Any, Any], asked: Asked) -> Told:
        at = asked.at or 0
        found = await self._log.read(stream, at - 1, at)
        aggregate = self._new(stream)
        if not found:
            return Told()
        if found[0].commit.previous:
            await aggregate.load(self._log, found[0].commit.previous)
        elif found[0].commit.version > 1:  # written before commits said what came before them
            for recorded in await self._log.read(stream, 0, at - 1):
                aggregate.state = aggregate.fold(aggregate.state, list(events_of(recorded)))
        state = aggregate.state
        answer = (
            None if asked.question is None else decider.explain(asked.question, state, events_of(found[0]))
        )
        return Told(aggregate.position, [], msgspec.Raw(_encode(answer)))

    async def _current(self, stream: Stream) -> Aggregate:
        """As the log has it now; of one asked about before, only the news are read."""
        aggregate = self._kept.pop(stream, None)
        if aggregate is None:
            aggregate = self._new(stream)
            await aggregate.load(self._log)
        else:
            for recorded in await self._log.read(stream, aggregate.position):
                aggregate.state = aggregate.fold(aggregate.state, list(events_of(recorded)))
                aggregate.position = recorded.position
        self._kept[stream] = aggregate
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return aggregate

    def _new(self, stream: Stream) -> Aggregate:
        decider = self._deciders[stream.context]
        return Aggregate(stream, decider, self._decode[stream.context], decider.initial, deque())

    def _copy(self, stream: Stream, state: Any) -> Any:
        """Of a state that is changed in place."""
        return self._decode[stream.context](_encode(state))


class LocalQuestions:
    """`core.questions.Questions` in one process and without a network."""

    def __init__(
        self, history: Log, deciders: Mapping[str, Decider[Any, Any, Any]], states: Mapping[str, Any]
    ) -> None:
        self._answers = Answers(history, deciders, states)

    async def ask(
        self,
        tenant: str,
        *,
        plan: Command | None = None,
        question: Question | None = None,
        at: int | None = None,
    ) -> Told:
        asked = decode_asked(_encode(Asked(plan, question, at)))  # what travels is read and checked
        return told(await self._answers.answer(about(tenant, plan, question), asked))


async def answer_questions(bus: Bus, answers: Answers) -> None:
    """`ask.<tenant>.<context>.<key>`: an `Asked` asks, a `Told` answers. One of all handlers does."""

    async def answer(message: Msg) -> None:
        _, *words = message.subject.split(".")
        try:
            asked = decode_asked(message.data)
            stream = Stream(*words)
            known = [one for one in (asked.plan, asked.question) if one is not None]
            if not known or any(stream_of(one, stream.tenant) != stream for one in known):
                raise Malformed("this is about another stream than its subject says")
            reply = await answers.answer(stream, asked)
        except (msgspec.ValidationError, msgspec.DecodeError, Malformed, TypeError, KeyError) as no:
            reply = Told(refusal=refusal(Malformed(str(no))))
        except Unavailable as error:
            log.warning("question not answered", subject=message.subject, reason=str(error))
            return
        await message.respond(_encode(reply))

    await bus.nats.subscribe(f"{SUBJECT}.*.*.*", queue=QUEUE, cb=answer)
