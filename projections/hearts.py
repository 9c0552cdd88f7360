"""Which nodes' agents are alive: traffic that is no event, and forgotten with the process."""

from __future__ import annotations

STALLED_MS = 5_000
"""Who has not looked for so long can not say who was silent meanwhile."""


class Hearts:
    """Until it `listens`, nobody is silent."""

    def __init__(self) -> None:
        self._heard: dict[str, int] = {}
        self._since: int | None = None
        self._looked = 0

    def listen(self, now_ms: int) -> None:
        """From now on; whoever was heard before might have been missed since."""
        self._since, self._looked = now_ms, now_ms
        self._heard.clear()

    def heard(self, node_id: str, now_ms: int) -> None:
        self._heard[node_id] = max(now_ms, self._heard.get(node_id, 0))

    def returned(self, node_id: str) -> None:
        """It has registered just now, whatever its own clock says."""
        self.heard(node_id, self._looked)

    def look(self, now_ms: int) -> None:
        """To be called every now and then: after a pause of our own nobody is blamed for it."""
        if self._since is not None and now_ms - self._looked > STALLED_MS:
            self.listen(now_ms)
        self._looked = now_ms

    def silent_ms(self, node_id: str, now_ms: int) -> int:
        if self._since is None:
            return 0
        return now_ms - max(self._since, self._heard.get(node_id, 0))
