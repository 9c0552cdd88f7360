"""The event log: the one thing that remembers.

`core.jetstream` keeps it in NATS, `core.memory` keeps it in a list; both keep
the promises of `tests/core/test_log.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from core.contexts import EVENT, Stream


class Decision(Struct, frozen=True):
    """What one command led to.

    `sequence` is the command's place in the COMMANDS stream; `command` its id,
    `correlation` the request it came with, `actor` the user, key, node or
    reactor that asked.
    """

    command: str
    sequence: int
    actor: str
    correlation: str
    events: list[EVENT]


class Commit(Struct, frozen=True, omit_defaults=True):
    """One message of the log: everything that was decided together about one stream.

    `answers` is the highest command sequence this stream has an answer to, which
    is what makes redelivery harmless for ever. `version` counts the stream's
    commits. Either `state` holds the aggregate after this commit, or
    `state_position` says which earlier commit of this stream holds one (0: none).
    `previous` is where the commit before this one is, 0 if this is the first.
    """

    version: int
    answers: int
    decisions: list[Decision]
    state: msgspec.Raw = msgspec.Raw(b"null")
    state_position: int = 0
    previous: int = 0


class Recorded(NamedTuple):
    """A commit as the log keeps it. `position` is its sequence in the log, `at_ms` when the log took it."""

    stream: Stream
    position: int
    at_ms: int
    commit: Commit


class Append(NamedTuple):
    """A commit to add to `stream`, provided its last commit is still the one at `expected` (0: none)."""

    stream: Stream
    expected: int
    commit: Commit


class Conflict(Exception):
    """Somebody else wrote to the stream first. Read again, decide again."""


class Unavailable(Exception):
    """The log did not answer; whether it took the commit is unknown. Read again to find out."""


class TooLarge(Exception):
    """No commit can have so many bytes; nothing was written."""


COMMIT_BYTES_MAX = 8_000_000
"""A little less than the 8 MiB that the broker takes at once, headers included."""


class Log(Protocol):
    async def last(self, stream: Stream) -> Recorded | None:
        """The newest commit of a stream. Raises `Unavailable`."""
        ...

    async def read(self, stream: Stream, after: int = 0, until: int | None = None) -> list[Recorded]:
        """A stream's commits after a position, up to and with `until`, in order. Raises `Unavailable`."""
        ...

    def append(self, *appends: Append) -> asyncio.Future[int]:
        """All of the commits or none; the position of the last one.

        The future raises `Conflict` when a stream has moved on, `Unavailable` when the
        outcome is unknown, `TooLarge` when there is no way.
        """
        ...

    async def end(self) -> int:
        """The position of the newest commit of all (0: none)."""
        ...

    def follow(self, *contexts: str, after: int = 0) -> AsyncGenerator[list[Recorded], None]:
        """Everything ever written in these contexts (all, if none is named) and then everything that will be.

        In order, in batches of whatever is at hand; never an empty batch.
        """
        ...


def encode(commit: Commit) -> bytes:
    """Canonical JSON: sorted keys, no floats, so that equal commits are equal bytes."""
    return msgspec.json.encode(commit, order="sorted")


decode = msgspec.json.Decoder(Commit).decode


def events_of(recorded: Recorded) -> Sequence[Any]:
    """The events of a commit, in order."""
    return [event for decision in recorded.commit.decisions for event in decision.events]
