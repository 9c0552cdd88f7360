"""Commands nobody could decide: kept aside with the reason, so that what came behind them goes on."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from core.bus import Bus, api_error, header_block
from core.jetstream import last_sequence
from core.log import Unavailable


class Parked(Struct, frozen=True):
    """`sequence` is its place among the dead, `command_sequence` the one it had in the queue."""

    sequence: int
    subject: str
    command_sequence: int
    command_id: str
    actor: str
    correlation: str
    reason: str
    body: bytes


async def park(
    bus: Bus,
    subject: str,
    body: bytes,
    *,
    sequence: int,
    command_id: str,
    actor: str,
    correlation: str,
    reason: str,
) -> None:
    """`subject` is the one the command was sent to. Parking the same command twice keeps it once."""
    headers = {
        "Nats-Msg-Id": f"dead-{sequence}",
        "Stratus-Subject": subject,
        "Stratus-Sequence": str(sequence),
        "Stratus-Command": command_id,
        "Stratus-Actor": actor,
        "Stratus-Correlation": correlation,
        "Stratus-Reason": " ".join(reason.split())[:500],
    }
    _, tenant, context, key, _ = subject.split(".", 4)
    _, answer = await bus.ask(f"dead.{tenant}.{context}.{key}".encode(), body, header_block(headers))
    if "error" in msgspec.json.decode(answer):
        raise Unavailable(api_error(msgspec.json.decode(answer)))


async def parked(bus: Bus, sequence: int) -> Parked | None:
    """One parked command, None if there is none at this place."""
    headers, body = await bus.request("$JS.API.DIRECT.GET.DEAD", msgspec.json.encode({"seq": sequence}))
    if "Stratus-Subject" not in headers:
        return None
    return Parked(
        sequence,
        headers["Stratus-Subject"],
        int(headers["Stratus-Sequence"]),
        headers["Stratus-Command"],
        headers["Stratus-Actor"],
        headers["Stratus-Correlation"],
        headers["Stratus-Reason"],
        body,
    )


async def listed(bus: Bus, limit: int = 100) -> list[Parked]:
    """The newest first."""
    found: list[Parked] = []
    for sequence in range(await last_sequence(bus, "DEAD"), 0, -1):
        one = await parked(bus, sequence)
        if one is not None:
            found.append(one)
        if len(found) == limit:
            break
    return found


async def redrive(bus: Bus, dead: Parked) -> None:
    """Put it back onto the queue and strike it off here. Raises `Unavailable`."""
    headers = {
        "Nats-Msg-Id": f"redrive-{dead.command_sequence}-{dead.sequence}",
        "Stratus-Actor": dead.actor,
        "Stratus-Correlation": dead.correlation,
    }
    _, answer = await bus.ask(dead.subject.encode(), dead.body, header_block(headers))
    acknowledged = msgspec.json.decode(answer)
    if "error" in acknowledged:
        raise Unavailable(api_error(acknowledged))
    await bus.ask(b"$JS.API.STREAM.MSG.DELETE.DEAD", b'{"seq":%d}' % dead.sequence)
