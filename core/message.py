"""Commands ask, events tell, rejections decline.

The first field of every message is the key of the one stream it is about; the
rest is data. Times, ids and prices are fields like any other: nothing that
decides may ask a clock or roll a dice.
"""

from __future__ import annotations

import inspect
from typing import Annotated, dataclass_transform

from msgspec import Meta, Struct

Token = Annotated[str, Meta(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9_:%~-]+\Z")]
"""One token of a NATS subject: no dots, no wildcards, no blanks."""

Millis = Annotated[int, Meta(ge=0, le=1 << 53)]
"""A moment, in milliseconds since 1970 UTC."""

MilliCpu = Annotated[int, Meta(ge=1, le=1_024_000)]
"""Thousandths of one CPU."""

GpuModel = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/()-]*\Z")]
"""As the driver names it: `T4`, `NVIDIA H100 80GB HBM3`."""

AnyGpuModel = Annotated[str, Meta(max_length=100, pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9 ._/()-]*)?\Z")]
"""The same, or '' for none."""

MiB = Annotated[int, Meta(ge=6, le=64 << 20)]
"""Mebibytes. Docker refuses containers of less than 6."""

Port = Annotated[int, Meta(ge=1, le=65535)]

Text = Annotated[str, Meta(max_length=2000)]


@dataclass_transform(frozen_default=True)
class Command(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A wish, in the imperative, addressed to one stream."""


@dataclass_transform(frozen_default=True)
class Event(Struct, frozen=True, tag=True):
    """A fact, in the past tense, about one stream.

    Unknown fields are ignored, so that yesterday's code can read what
    tomorrow's code wrote.
    """


@dataclass_transform(frozen_default=True)
class Question(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Something to be told of one stream, as it is now; answering it writes nothing."""


class Rejection(Exception):
    """The command was understood, and declined."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or inspect.getdoc(type(self)))


class Unknown(Rejection):
    """There is no such thing here."""


class Invalid(Rejection):
    """The command asks for something that can never be."""
