"""Argon2id as OWASP asks for it, away from the event loop and never more than two at once.

Each hash costs 19 MiB and some 40 ms: without the bound, a handful of clients
signing in would take the machine.
"""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE = 2
NO_USER = "$argon2id$v=19$m=19456,t=2,p=1$Cb5benKtHgXFgaR1HM7e/g$M53Gna7GqyJPQWGcs1x9U/eeEcFTMRq8ofjkp8W2GDE"
"""Verified when there is no such user, so that the answer takes as long as for one there is."""


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def hash(self, password: str) -> str:
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether it is the one; `hashed` None, for a user who is not there, is never."""
        async with self._turn:
            return await asyncio.to_thread(self._verify, password, hashed or NO_USER) and hashed is not None

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False
