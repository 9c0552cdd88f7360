"""What a reactor would have done."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.message import Command
from projections.pending import Outlook


class Wish(NamedTuple):
    """A command on behalf of `tenant`.

    `about` tells this wish from all others for the same kind of command, and is the
    same again as often as it is wished: `ctr_5:2` is about the second run of `ctr_5`.
    """

    tenant: str
    command: Command
    about: str

    @property
    def command_id(self) -> str:
        return f"{type(self.command).__name__}:{self.about}"


Plan = Callable[[Outlook, int], list[Wish]]
"""What is to be done now, by what the projections show and the milliseconds since 1970.

Plans may be out of date when they are carried out; it does not matter, because each
command is decided again, and what was declined or done is not wished any more once
the projections show it.
"""
