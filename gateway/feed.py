"""The newest commits, once in memory for all who watch: each reader has only a place in it.

Whoever falls behind what is kept is told so and reads on later; nothing ever
piles up for a slow reader.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from core.log import Log, Recorded, Unavailable

KEPT = 10_000
RETRY_S = 0.5


class FellBehind(Exception):
    """The reader was too slow; it can resume from the last position it saw."""


class Feed:
    def __init__(self, log: Log, kept: int = KEPT) -> None:
        self._log = log
        self._recent: deque[Recorded] = deque(maxlen=kept)
        self._start = 0
        self._closed = False
        self._grown = asyncio.Event()

    async def start(self) -> None:
        """Before all else: where memory begins. Raises `Unavailable`."""
        self._start = await self._log.end()

    async def follow(self) -> None:
        """Keep up with the log, from the start and for ever."""
        while True:
            try:
                async for batch in self._log.follow(after=self.end):
                    self._recent.extend(batch)
                    self._wake()
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """Let every reader come to its end."""
        self._closed = True
        self._wake()

    @property
    def end(self) -> int:
        """The position of the newest commit known here."""
        return self._recent[-1].position if self._recent else self._start

    async def read(self, after: int) -> AsyncGenerator[list[Recorded], None]:
        """Everything after a position, then everything new, in batches.

        The past comes out of the log itself. Ends when the feed is closed. Raises `FellBehind`.
        """
        if after < self._oldest:
            past = self._log.follow(after=after)
            try:
                async for batch in past:
                    yield batch
                    after = batch[-1].position
                    if after >= self._oldest:
                        break
            finally:
                await past.aclose()
        while not self._closed:
            grown = self._grown
            if after < self._oldest:
                raise FellBehind
            batch = [recorded for recorded in self._recent if recorded.position > after]
            if batch:
                after = batch[-1].position
                yield batch
            else:
                await grown.wait()

    @property
    def _oldest(self) -> int:
        """Whoever has read up to here can read on from memory."""
        full = len(self._recent) == self._recent.maxlen
        return self._recent[0].position - 1 if full else self._start

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()
