"""The loop around every decider: decide, append, answer; and again if someone was faster.

Each aggregate is folded once and kept. At most one append per aggregate is under
way; what arrives meanwhile is decided together and becomes the next commit, so a
busy aggregate costs one write for many commands. Nothing here trusts that a
command arrives once: every commit says up to which command its stream has an
answer, and a wish already true is answered with nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from core.commands import Answer, Kind, Refusal
from core.contexts import COMMAND, Stream, stream_of
from core.decider import Decider
from core.log import Append, Commit, Conflict, Log, TooLarge, Unavailable
from core.message import Command, Invalid, Rejection, Unknown
from handlers.aggregate import Aggregate, Received, Turn

log = structlog.get_logger(__name__)

ATTEMPTS = 5
"""How often a command may fail before it is put aside."""

RETRY_S = 0.2
"""After a log that did not answer; after a conflict it is `CONFLICT_S`."""

CONFLICT_S = 0.002
CACHED_MAX = 5_000
"""Aggregates a runtime keeps folded; there is one runtime to a partition."""

_command = msgspec.json.Decoder(COMMAND)

Park = Callable[[Received, str], Awaitable[None]]


def refusal(no: Rejection) -> Refusal:
    kind: Kind = (
        "unknown" if isinstance(no, Unknown) else "invalid" if isinstance(no, Invalid) else "conflict"
    )
    return Refusal(type(no).__name__, kind, str(no))


class Malformed(Invalid):
    """This is no command of this platform."""


class Parked(Rejection):
    """The command failed five times and was put aside; an operator can look into it and send it again."""


class Runtime:
    """Decides whatever it `receive`s, one stream at a time and all streams at once."""

    def __init__(
        self,
        history: Log,
        deciders: Mapping[str, Decider[Any, Any, Any]],
        states: Mapping[str, Any],
        park: Park,
    ) -> None:
        self._log, self._deciders, self._park = history, deciders, park
        self._decode = {name: msgspec.json.Decoder(shape).decode for name, shape in states.items()}
        self._aggregates: dict[Stream, Aggregate] = {}
        self._failures: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def receive(self, received: Received) -> None:
        aggregate = self._aggregates.get(received.stream)
        if aggregate is None:
            aggregate = self._remember(received.stream)
            if aggregate is None:
                self._refuse_unreadable(received, f"there is no context {received.stream.context!r}")
                return
        aggregate.waiting.append(received)
        if not aggregate.busy:
            aggregate.busy = True
            self._loop.call_soon(self._turn, aggregate)

    async def close(self) -> None:
        """Decide nothing more: another process may have these streams now."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _remember(self, stream: Stream) -> Aggregate | None:
        if stream.context not in self._deciders:
            return None
        if len(self._aggregates) >= CACHED_MAX:
            for old in [s for s, a in self._aggregates.items() if not a.busy][: CACHED_MAX // 10]:
                del self._aggregates[old]
        aggregate = self._aggregates[stream] = self._aggregate(stream)
        return aggregate

    def _aggregate(self, stream: Stream) -> Aggregate:
        decider = self._deciders[stream.context]
        return Aggregate(stream, decider, self._decode[stream.context], decider.initial, deque())

    def _turn(self, aggregate: Aggregate) -> None:
        """Decide all that waits, append it once. Runs as a plain callback: no task for the common case.

        A stream not read yet is first taken for a new one, which spares every
        creation a round trip: if it is not, the append is refused (it expects
        position 0), and if nothing would be appended, it is read before anybody is told.
        """
        if self._closed or not aggregate.waiting:
            aggregate.busy = False
            return
        turn = aggregate.turn()
        while aggregate.waiting and turn.has_room and not (aggregate.alone and turn.told):
            received = aggregate.waiting[0]
            if received.sequence <= aggregate.answers:
                turn.tell(received)
                aggregate.waiting.popleft()
                continue
            try:
                command = self._read(received)
                if aggregate.decider.alongside(command, turn.state):
                    if not turn.told and aggregate.loaded:
                        self._spawn(self._together(aggregate, received, command))
                        return
                    break
                events = aggregate.decider.decide(command, turn.state)
                state = aggregate.fold(turn.state, events)
            except Malformed as no:
                self._refuse_unreadable(received, str(no))
                aggregate.waiting.popleft()
                continue
            except Rejection as no:
                turn.tell(received, refusal(no))
                aggregate.waiting.popleft()
                continue
            except Exception as error:  # a bug: it may pass (five tries), and must not hold up the others
                if turn.told or not aggregate.loaded:
                    break
                self._spawn(self._failed(aggregate, received, error))
                return
            aggregate.waiting.popleft()
            turn.tell(received)
            if events:
                turn.decide(received, events, state)
        if turn.decisions:
            self._append(aggregate, turn)
        elif not aggregate.loaded:
            aggregate.waiting.extendleft(received for received, _ in reversed(turn.told))
            self._spawn(self._load_then_turn(aggregate))
        else:
            aggregate.tell(turn)
            self._loop.call_soon(self._turn, aggregate)

    def _append(self, aggregate: Aggregate, turn: Turn) -> None:
        append = aggregate.commit(turn)
        try:
            written = self._log.append(append)
        except Unavailable as error:
            self._again(aggregate, turn, error)
            return
        written.add_done_callback(lambda outcome: self._appended(aggregate, turn, append.commit, outcome))

    def _appended(
        self, aggregate: Aggregate, turn: Turn, commit: Commit, outcome: asyncio.Future[int]
    ) -> None:
        if outcome.cancelled():
            return
        error = outcome.exception()
        if isinstance(error, TooLarge):
            self._one_by_one(aggregate, turn, error)
            return
        if isinstance(error, Conflict | Unavailable):
            self._again(aggregate, turn, error)
            return
        if error is not None:
            raise error
        for received, _ in turn.told:
            self._failures.pop(received.sequence, None)
        aggregate.advance(turn, commit, outcome.result())
        self._turn(aggregate)

    def _again(self, aggregate: Aggregate, turn: Turn, error: Exception) -> None:
        """Somebody was faster, or the outcome is unknown: read again, decide again."""
        log.debug("deciding again", stream=str(aggregate.stream), reason=type(error).__name__)
        aggregate.waiting.extendleft(received for received, _ in reversed(turn.told))
        aggregate.loaded = False
        delay = RETRY_S if isinstance(error, Unavailable) else CONFLICT_S
        self._loop.call_later(delay, lambda: self._spawn(self._load_then_turn(aggregate)))

    def _one_by_one(self, aggregate: Aggregate, turn: Turn, error: TooLarge) -> None:
        """What was too large for one commit is tried in several; what is too large by itself has failed."""
        if aggregate.alone or len(turn.told) == 1:
            received = next(received for received, refused in turn.told if refused is None)
            aggregate.waiting.extendleft(one for one, _ in reversed(turn.told))
            aggregate.loaded = False
            self._spawn(self._failed(aggregate, received, error))
            return
        aggregate.alone = True
        self._again(aggregate, turn, error)

    async def _load_then_turn(self, aggregate: Aggregate) -> None:
        while True:
            try:
                await aggregate.load(self._log)
                break
            except Unavailable:
                await asyncio.sleep(RETRY_S)
        self._turn(aggregate)

    async def _together(self, aggregate: Aggregate, received: Received, command: Command) -> None:
        """A wish that others must come true alongside: all of them in one append, or none."""
        try:
            turn, appends = aggregate.turn(), list[Append]()
            events = aggregate.decider.decide(command, aggregate.state)
            if not events:
                raise _Settled
            for wish in aggregate.decider.alongside(command, aggregate.state):
                other = self._aggregate(stream_of(wish, received.stream.tenant))
                await other.load(self._log)
                if facts := other.decider.decide(wish, other.state):
                    theirs = other.turn()
                    theirs.decide(received, facts, other.fold(other.state, facts))
                    theirs.answers = other.answers  # theirs may still be waiting, with lower sequences
                    appends.append(other.commit(theirs))
            turn.tell(received)
            turn.decide(received, events, aggregate.fold(aggregate.state, events))
            append = aggregate.commit(turn)
            position = await self._log.append(*appends, append)
            self._failures.pop(received.sequence, None)
            aggregate.waiting.popleft()
            aggregate.advance(turn, append.commit, position)
        except _Settled:
            aggregate.waiting.popleft()
            received.done(Answer(aggregate.position))
        except Rejection as no:
            aggregate.waiting.popleft()
            received.done(Answer(aggregate.position, refusal(no)))
        except (Conflict, Unavailable) as error:
            await asyncio.sleep(CONFLICT_S if isinstance(error, Conflict) else RETRY_S)
            await self._load_then_turn(aggregate)
            return
        except Exception as error:  # as in `_turn`
            await self._failed(aggregate, received, error)
            return
        self._turn(aggregate)

    async def _failed(self, aggregate: Aggregate, received: Received, error: Exception) -> None:
        failures = self._failures[received.sequence] = self._failures.get(received.sequence, 0) + 1
        log.error(
            "deciding failed",
            command=received.name,
            stream=str(received.stream),
            failures=failures,
            exc_info=error,
        )
        if failures >= ATTEMPTS:
            await self._put_aside(received, f"{type(error).__name__}: {error}")
            received.done(Answer(aggregate.position, refusal(Parked())))
            aggregate.waiting.popleft()
        else:
            await asyncio.sleep(0.01 * 2**failures)
        await self._load_then_turn(aggregate)

    def _read(self, received: Received) -> Command:
        """The command, whose body must say the same as its subject. Raises `Malformed`."""
        try:
            command: Command = _command.decode(received.body)
        except (msgspec.ValidationError, msgspec.DecodeError) as no:
            raise Malformed(str(no)) from None
        if (
            type(command).__name__ != received.name
            or stream_of(command, received.stream.tenant) != received.stream
        ):
            raise Malformed(
                f"the body is a {type(command).__name__} for another address than the subject says"
            )
        return command

    def _refuse_unreadable(self, received: Received, reason: str) -> None:
        async def put_aside() -> None:
            await self._put_aside(received, f"malformed: {reason}")
            received.done(Answer(0, refusal(Malformed(reason))))

        self._spawn(put_aside())

    async def _put_aside(self, received: Received, reason: str) -> None:
        self._failures.pop(received.sequence, None)
        while True:
            try:
                await self._park(received, reason)
                return
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Settled(Exception):
    """The wish was true already."""
