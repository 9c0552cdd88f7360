"""Why nobody took a request: how many nodes lack what, and whether all of them together would have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from handlers.cluster import Cluster
from handlers.room import Need, Room

LACKS = ("closed", "GPU model", "GPUs", "memory", "CPU", "kept")
"""In the order in which nodes are asked; each is counted under the first thing it lacks."""

WORDS = {"closed": "closed", "kept": "kept free for others"}


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


def lacking(cluster: Cluster, need: Need, barred: Collection[str] = ()) -> Counter[str]:
    """Nodes by what they lack; under '' those that would do, under `kept` those that are `barred`."""
    return Counter(
        lack(room, need) or ("kept" if node_id in barred else "")
        for node_id, room in cluster.books.rooms.items()
    )


def shortage(cluster: Cluster, need: Need, barred: Collection[str] = ()) -> str:
    """`no node fits, for want of: 3 GPU model, 10 GPUs`; '' if one does."""
    rooms = list(cluster.books.rooms.values())
    if not any(room.open for room in rooms):
        return "no node takes work"
    lacks = lacking(cluster, need, barred)
    if lacks[""]:
        return ""
    counts = ", ".join(f"{lacks[name]} {WORDS.get(name, name)}" for name in LACKS if lacks[name])
    free = sum(
        left >= need.gpu_milli for room in rooms if lack(room, need) == "GPUs" for left in room.devices
    )
    together = f"; {free} such GPUs are free in all" if need.gpus and free >= need.gpus else ""
    return f"no node fits, for want of: {counts}{together}"
