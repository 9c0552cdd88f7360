"""Publish a command to JetStream and hear what became of it: nats-py, and nothing of ours.

    eval "$(stratus env)"    # sets STRATUS_NATS_URL while `stratus up` runs
    python -m gateway.examples.nats_client _ fleet node-7 CordonNode '{"node_id": "node-7", "at_ms": 1}'

A command is a JSON object published to `cmd.<tenant>.<context>.<key>.<Command>`.
Its fields are those of the class of that name in `core/messages`, `type` is the
class's name, and its first field is the key again. Three headers matter:

- `Nats-Msg-Id`: the command's id. Publish again under the same id as often as you
  like (within two minutes), it is stored once.
- `Stratus-Reply`: an inbox of yours. The answer comes there, when it is decided:
  `{"position": 17}` is where in the log the wish is true, or
  `{"position": 12, "refusal": {"rejection": "NameIsTaken", "kind": "conflict", "reason": "..."}}`.
- `Stratus-Actor`: who asks, for the audit.

The broker's own acknowledgement means that the command is kept, and will be
decided even if everything is killed now. The event is at `position` of the
stream EVENTS, with whatever was decided together with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from typing import Any

import nats

TIMEOUT_S = 10.0


async def ask(url: str, tenant: str, context: str, key: str, command: str, fields: dict[str, Any]) -> int:
    """0 if the wish came true, 1 if it was refused. Prints the answer, and the commit it points at."""
    client = await nats.connect(url, connect_timeout=2, max_reconnect_attempts=3)
    try:
        stream = client.jetstream()
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox, max_msgs=1)
        kept = await stream.publish(
            f"cmd.{tenant}.{context}.{key}.{command}",
            json.dumps({"type": command, **fields}).encode(),
            headers={
                "Nats-Msg-Id": uuid.uuid4().hex,
                "Stratus-Reply": inbox,
                "Stratus-Actor": "example",
            },
        )
        print(f"kept as command {kept.seq}")
        answer = json.loads((await answers.next_msg(timeout=TIMEOUT_S)).data)
        print(f"answer: {json.dumps(answer)}")
        if "refusal" in answer:
            return 1
        if answer.get("position"):
            event = await stream.get_msg("EVENTS", seq=answer["position"])
            print(f"{event.subject}: {(event.data or b'').decode()}")
        return 0
    finally:
        await client.close()


def main() -> None:
    if len(sys.argv) != 6:
        raise SystemExit("usage: python -m gateway.examples.nats_client TENANT CONTEXT KEY COMMAND JSON")
    url = os.environ.get("STRATUS_NATS_URL")
    if not url:
        raise SystemExit('STRATUS_NATS_URL is not set: eval "$(stratus env)" sets it while `stratus up` runs')
    tenant, context, key, command, fields = sys.argv[1:]
    raise SystemExit(asyncio.run(ask(url, tenant, context, key, command, json.loads(fields))))


if __name__ == "__main__":
    main()
