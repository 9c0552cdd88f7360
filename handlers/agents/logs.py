"""What a container has written, told to whoever asks its node over the bus."""

from __future__ import annotations

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from core.bus import Bus
from handlers.agents.engine import Engine, EngineIsDown, EngineRefused

LINES_MAX = 5000
LOG_REPLY_BYTES_MAX = 1_000_000


class LogRequest(Struct, frozen=True):
    container_id: str
    run: int
    tail: int = 200


async def answer_logs(bus: Bus, node_id: str, engine: Engine) -> None:
    """`agent.<node>.logs`: `{"container_id", "run", "tail"}` asks, `{"lines": [...]}` answers.

    A megabyte at most; a run that is not here has no lines. `{"error": "..."}` if it can not be told.
    """

    async def answer(message: Msg) -> None:
        try:
            asked = msgspec.json.decode(message.data, type=LogRequest)
            name = f"{asked.container_id}-{asked.run}"
            lines = await engine.logs(name, max(1, min(asked.tail, LINES_MAX)))
            reply = msgspec.json.encode({"lines": _latest(lines)})
        except msgspec.ValidationError as wrong:
            reply = msgspec.json.encode({"error": str(wrong)})
        except (EngineIsDown, EngineRefused) as error:
            reply = msgspec.json.encode({"error": str(error)})
        await message.respond(reply)

    await bus.nats.subscribe(f"agent.{node_id}.logs", cb=answer)


def _latest(lines: list[str]) -> list[str]:
    """As many of the last lines as fit into one message."""
    left, first = LOG_REPLY_BYTES_MAX, len(lines)
    while first and (left := left - len(msgspec.json.encode(lines[first - 1])) - 1) > 0:
        first -= 1
    return lines[first:]
