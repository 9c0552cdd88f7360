"""One stream's folded state: how it is read back from the log, and what its next commit says."""

from __future__ import annotations

import base64
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from core.commands import Answer, Refusal
from core.contexts import Stream
from core.decider import Decider
from core.log import Append, Commit, Decision, Log, events_of

STATE_BYTES_MAX = 4096
"""A larger state rides along only every `STATE_EVERY` commits."""

STATE_EVERY = 64

TURN_MAX = 512
TURN_BYTES_MAX = 1 << 20
TURN_EVENTS_MAX = 4000
"""Of one commit at most: commands by number and by size, and events; the broker bounds its messages."""

PACKED_FROM_BYTES = 256 << 10
"""A state so large is compressed."""

CARRIED_BYTES_MAX = 4 << 20
"""A larger one is not carried at all, for the broker takes no more than 8 MiB at once."""

EVENTS_ALONE = 1000
"""With so many events a commit is large enough without the state."""

_encode_state = msgspec.json.Encoder(order="sorted").encode


class Received(NamedTuple):
    """A command off the queue. `done` is called once, with the answer, when it has been dealt with."""

    sequence: int
    stream: Stream
    name: str
    command: str
    actor: str
    correlation: str
    body: bytes
    done: Callable[[Answer], None]


class Turn(Struct, eq=False):
    """What one commit will say, and whom to tell when it is written: a refusal, or (None) where.

    `size` adds up the commands' bytes, which bounds the commit's.
    """

    state: Any
    answers: int
    decisions: list[Decision] = []
    told: list[tuple[Received, Refusal | None]] = []
    size: int = 0
    events: int = 0

    @property
    def has_room(self) -> bool:
        return len(self.told) < TURN_MAX and self.size < TURN_BYTES_MAX and self.events < TURN_EVENTS_MAX

    def tell(self, received: Received, refused: Refusal | None = None) -> None:
        self.told.append((received, refused))
        self.size += len(received.body)

    def decide(self, received: Received, events: list[Any], state: Any) -> None:
        """The command led to these events, and they to this state."""
        self.state, self.answers = state, received.sequence
        self.decisions.append(decision(received, events))
        self.events += len(events)


class Aggregate(Struct, eq=False):
    """Where in the log the state was read from, and the commands that wait for it.

    Until it is `loaded` it looks like a stream nobody has written to. `alone` is set while
    its commands are decided one by one, because together they were too much for one commit.
    """

    stream: Stream
    decider: Decider[Any, Any, Any]
    decode: Callable[[bytes | msgspec.Raw], Any]
    state: Any
    waiting: deque[Received]
    position: int = 0
    version: int = 0
    answers: int = 0
    state_position: int = 0
    state_bytes: int = 0
    loaded: bool = False
    busy: bool = False
    alone: bool = False

    def turn(self) -> Turn:
        return Turn(self.state, self.answers)

    def fold(self, state: Any, events: list[Any]) -> Any:
        for event in events:
            state = self.decider.evolve(state, event)
        return state

    async def load(self, history: Log, until: int | None = None) -> None:
        """One read of the last commit, which carries the state; else from the commit that does.

        As it was with the commit at `until`, if given. Raises `Unavailable`.
        """
        if until is None:
            last = await history.last(self.stream)
        else:
            last = next(iter(await history.read(self.stream, until - 1, until)), None)
        if last is None:
            self.state = self.decider.initial
            self.position = self.version = self.answers = self.state_position = 0
            self.loaded = True
            return
        carrier, tail = last, list[Any]()
        if last.commit.state_position:
            carrier, *tail = await history.read(self.stream, last.commit.state_position - 1, until)
            last = tail[-1] if tail else carrier
        state = unpacked(carrier.commit.state)
        try:
            self.state = self.decode(state)
        except msgspec.ValidationError:  # yesterday's state; the events are what counts
            self.state = self.decider.initial
            tail = await history.read(self.stream, 0, last.position)
        self.state_position, self.state_bytes = carrier.position, len(state)
        for recorded in tail:
            self.state = self.fold(self.state, list(events_of(recorded)))
        self.position, self.version = last.position, last.commit.version
        self.answers = last.commit.answers
        self.loaded = True

    def commit(self, turn: Turn) -> Append:
        version = self.version + 1
        large = self.state_bytes > STATE_BYTES_MAX
        state, carrier = msgspec.Raw(b"null"), self.state_position
        if not (carrier and ((large and version % STATE_EVERY) or turn.events > EVENTS_ALONE)):
            whole = _encode_state(turn.state)
            self.state_bytes, small = len(whole), packed(whole)
            if len(small) < CARRIED_BYTES_MAX or not carrier:
                state, carrier = msgspec.Raw(small), 0
        commit = Commit(version, turn.answers, turn.decisions, state, carrier, self.position)
        return Append(self.stream, self.position, commit)

    def advance(self, turn: Turn, commit: Commit, position: int) -> None:
        """The commit was written at `position`: everybody is told."""
        if commit.state_position == 0:
            self.state_position = position
        self.state, self.answers = turn.state, turn.answers
        self.position, self.version, self.loaded, self.alone = position, commit.version, True, False
        self.tell(turn)

    def tell(self, turn: Turn) -> None:
        for received, refused in turn.told:
            received.done(Answer(self.position, refused))


def packed(state: bytes) -> bytes:
    """A large state as a JSON string: base64 of its zlib."""
    if len(state) < PACKED_FROM_BYTES:
        return state
    return b'"' + base64.b64encode(zlib.compress(state, 1)) + b'"'


def unpacked(state: bytes | msgspec.Raw) -> bytes:
    found = bytes(state)
    if not found.startswith(b'"'):
        return found
    return zlib.decompress(base64.b64decode(found[1:-1]))


def decision(received: Received, events: list[Any]) -> Decision:
    return Decision(received.command, received.sequence, received.actor, received.correlation, list(events))
