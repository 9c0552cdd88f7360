"""Why nobody took a request: how many nodes lack what, and whether all of them together would have it."""

from __future__ import annotations

from collections import Counter

from handlers.cluster import Cluster
from handlers.room import Need, Room

LACKS = ("closed", "GPU model", "GPUs", "memory", "CPU")
"""In the order in which nodes are asked; each is counted under the first thing it lacks."""


def lack(room: Room, need: Need) -> str:
    """The first thing of which the room has not enough; '' if it fits."""
    if not room.open:
        return "closed"
    if need.gpus and need.models and room.model not in need.models:
        return "GPU model"
    if need.gpus and sum(left >= need.gpu_milli for left in room.devices) < need.gpus:
        return "GPUs"
    if room.memory_mib < need.memory_mib:
        return "memory"
    return "CPU" if room.cpu_milli < need.cpu_milli else ""


def shortage(cluster: Cluster, need: Need) -> str:
    """`no node fits, for want of: 3 GPU model, 10 GPUs`; '' if one does, though kept free for another."""
    rooms = list(cluster.books.rooms.values())
    if not any(room.open for room in rooms):
        return "no node takes work"
    lacking = Counter(lack(room, need) for room in rooms)
    if lacking[""]:
        return ""
    counts = ", ".join(f"{lacking[name]} {name}" for name in LACKS if lacking[name])
    free = sum(
        left >= need.gpu_milli for room in rooms if lack(room, need) == "GPUs" for left in room.devices
    )
    together = f"; {free} such GPUs are free in all" if need.gpus and free >= need.gpus else ""
    return f"no node fits, for want of: {counts}{together}"
