"""What we know of people, sealed under a key of their own: forget the key, and the log has forgotten them.

The log is kept for ever and shown to auditors, so it holds ciphertext and keyed
hashes only. The keys lie beside it, in a stream that can delete, and are never
cached: who is forgotten is forgotten everywhere at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.bus import Bus, api_error, header
from core.jetstream import WRONG_LAST_SEQUENCE, last_message
from core.log import Unavailable

KEY_BYTES, NONCE_BYTES = 32, 12


class Keys(Protocol):
    """A key for each name. All of it raises `Unavailable`."""

    async def own(self, name: str) -> bytes:
        """The key under this name; made now, if there is none. The same for all who ask at once."""
        ...

    async def find(self, name: str) -> bytes | None: ...

    async def forget(self, name: str) -> None: ...


class MemoryKeys:
    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    async def own(self, name: str) -> bytes:
        return self._keys.setdefault(name, secrets.token_bytes(KEY_BYTES))

    async def find(self, name: str) -> bytes | None:
        return self._keys.get(name)

    async def forget(self, name: str) -> None:
        self._keys.pop(name, None)


class JetStreamKeys:
    """Keys in the VAULT stream, one message under `vault.<name>` each."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def own(self, name: str) -> bytes:
        key = await self.find(name)
        if key is not None:
            return key
        key = secrets.token_bytes(KEY_BYTES)
        unless_there_is_one = {"Nats-Expected-Last-Subject-Sequence": "0"}
        _, data = await self._bus.request(f"vault.{name}", key, unless_there_is_one)
        answer = msgspec.json.decode(data or b'{"error":{}}')
        if "error" not in answer:
            return key
        if answer["error"].get("err_code") not in WRONG_LAST_SEQUENCE:
            raise Unavailable(f"the vault refuses: {api_error(answer)}")
        key = await self.find(name)
        if key is None:
            raise Unavailable("the vault's answers contradict each other")
        return key

    async def find(self, name: str) -> bytes | None:
        found = await last_message(self._bus, "VAULT", f"vault.{name}")
        return found[1] if found else None

    async def forget(self, name: str) -> None:
        found = await last_message(self._bus, "VAULT", f"vault.{name}")
        if found is None:
            return
        order = b'{"seq":%d}' % int(header(found[0], b"Nats-Sequence"))  # the server overwrites the bytes
        _, data = await self._bus.request("$JS.API.STREAM.MSG.DELETE.VAULT", order)
        answer = msgspec.json.decode(data)
        if "error" in answer and await self.find(name) is not None:
            raise Unavailable(f"the vault refuses: {api_error(answer)}")


class Vault:
    """Seals and opens. `pepper` keys the hashes of `blind`: with another one, nobody would be found again."""

    def __init__(self, keys: Keys, pepper: bytes) -> None:
        self._keys, self._pepper = keys, pepper

    async def seal(self, subject_id: str, data: dict[str, str]) -> str:
        nonce = secrets.token_bytes(NONCE_BYTES)
        key = await self._keys.own(subject_id)
        sealed = AESGCM(key).encrypt(nonce, msgspec.json.encode(data, order="sorted"), subject_id.encode())
        return urlsafe_b64encode(nonce + sealed).decode()

    async def open(self, subject_id: str, sealed: str) -> dict[str, str] | None:
        """None once the subject is forgotten, also if it came back under a new key."""
        key = await self._keys.find(subject_id)
        if key is None:
            return None
        raw = urlsafe_b64decode(sealed)
        try:
            data = AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], subject_id.encode())
        except InvalidTag:
            return None
        return msgspec.json.decode(data, type=dict[str, str])

    def blind(self, kind: str, value: str) -> str:
        """64 hex digits that say nothing about `value`, and are the same for the same value of a kind."""
        return hmac.new(self._pepper, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()

    async def forget(self, subject_id: str) -> None:
        await self._keys.forget(subject_id)
