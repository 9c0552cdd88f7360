"""An agent's sign of life: a node that gives none for long is taken for lost, and its work goes elsewhere."""

from __future__ import annotations

import asyncio

from core.bus import Bus

BEAT_S = 5.0


class Heart:
    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus, self._subject = bus, f"beat.{node_id}"
        bus.on_reconnect.append(self.beat)

    def beat(self) -> None:
        """Nothing is kept for later while the broker is away: an old sign of life is none."""
        if self._bus.connected:
            self._bus.publish(self._subject, b"")

    async def run(self, every_s: float = BEAT_S) -> None:
        """For ever, whether or not the engine answers: what it runs does not depend on it."""
        while True:
            self.beat()
            await asyncio.sleep(every_s)
