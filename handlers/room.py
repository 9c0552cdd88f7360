"""What one request needs and what one node has left, in whole numbers.

A GPU is counted in thousandths of one device. Only a request for a single GPU may
ask for less than a whole one, which it then shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

WHOLE = 1000
"""Milli-GPU of one device."""


class Need(NamedTuple):
    """What a request takes away from its node; equal needs are one class.

    `gpu_milli` is what is taken of each of the `gpus`; `models` are the GPU models
    that will do, any if it is empty.
    """

    cpu_milli: int
    memory_mib: int
    gpus: int = 0
    gpu_milli: int = 0
    models: tuple[str, ...] = ()

    @property
    def demand(self) -> str:
        """The need without its memory, which no GPU is short of: what the mix of work is counted by."""
        return f"{self.cpu_milli}:{self.gpus}:{self.gpu_milli}:{'|'.join(self.models)}"

    @property
    def weight(self) -> int:
        """How much is lost if this stands still: milli-GPU, with 16 CPUs for one GPU as in openb."""
        return self.gpus * self.gpu_milli + self.cpu_milli // 16 + 1


class Room(Struct, eq=False):
    """What a node has left. Less than nothing, when an offer has shrunk below what was promised."""

    node_id: str
    cpu_milli: int
    memory_mib: int
    devices: list[int]
    model: str
    open: bool

    def fits(self, need: Need) -> bool:
        return (
            self.open
            and need.memory_mib <= self.memory_mib
            and need.cpu_milli <= self.cpu_milli
            and (not need.gpus or self._has_gpus(need))
        )

    def _has_gpus(self, need: Need) -> bool:
        if need.models and self.model not in need.models:
            return False
        wanted, gpu_milli = need.gpus, need.gpu_milli
        for left in self.devices:
            if left >= gpu_milli:
                wanted -= 1
                if not wanted:
                    return True
        return False

    def take(self, need: Need, devices: Iterable[int]) -> None:
        self.cpu_milli -= need.cpu_milli
        self.memory_mib -= need.memory_mib
        for device in devices:
            self.devices[device] -= need.gpu_milli

    def give_back(self, need: Need, devices: Iterable[int]) -> None:
        self.cpu_milli += need.cpu_milli
        self.memory_mib += need.memory_mib
        for device in devices:
            self.devices[device] += need.gpu_milli

    def pick(self, need: Need, left: int | None = None) -> tuple[int, ...]:
        """The devices to take: the first that have `left`, the tightest that fit if that is None."""
        if not need.gpus:
            return ()
        if left is not None:
            return (self.devices.index(left),)
        fitting = sorted((have, device) for device, have in enumerate(self.devices) if have >= need.gpu_milli)
        return tuple(sorted(device for _, device in fitting[: need.gpus]))


def tightest(rooms: Sequence[Room], need: Need) -> Room | None:
    """Best fit: the room with least left, so that what is large finds room on another; ties go by name."""
    fitting = (
        (sum(room.devices), room.memory_mib, room.cpu_milli, room.node_id, room)
        for room in rooms
        if room.fits(need)
    )
    best = min(fitting, key=lambda found: found[:4], default=None)
    return best[4] if best else None
