"""Which NVIDIA GPUs this machine has, as far as their driver tells."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from contextlib import suppress

import structlog
from msgspec import Struct

log = structlog.get_logger(__name__)

ASK = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
PATIENCE_S = 20.0
MODEL_CHARS_MAX = 100


class Gpus(Struct, frozen=True):
    """All of one `model`; `numbers` are the driver's, in which those of other models leave gaps."""

    model: str = ""
    numbers: tuple[int, ...] = ()


async def find(patience_s: float = PATIENCE_S) -> Gpus:
    """None where there is no driver, or it does not answer: the machine is of use without."""
    models = [_model(line) for line in await _said(patience_s)]
    counts = Counter(model for model in models if model)
    if not counts:
        return Gpus()
    ((model, number),) = counts.most_common(1)
    if len(counts) > 1:
        others = {other: count for other, count in counts.items() if other != model}
        log.warning("gpus of one model only are used", model=model, gpus=number, left_out=others)
    return Gpus(model, tuple(number for number, other in enumerate(models) if other == model))


async def _said(patience_s: float) -> list[str]:
    """The lines of the driver's answer: one for each GPU."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *ASK, stdin=nothing, stdout=pipe, stderr=nothing, start_new_session=True
        )
    except OSError:
        return []
    try:
        async with asyncio.timeout(patience_s):
            output, _ = await process.communicate()
    except TimeoutError:
        log.warning("gpus unknown", reason=f"{ASK[0]} did not answer within {patience_s} s")
        return []
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        log.warning("gpus unknown", reason=f"{ASK[0]} ended with code {process.returncode}")
        return []
    return output.decode(errors="replace").splitlines()


def _model(line: str) -> str:
    """As a cluster may be told; '' for what is no model, like `[Unknown Error]`."""
    if line.startswith(("[", "No devices")):
        return ""
    name = re.sub(r"[^A-Za-z0-9 ._/()-]", "-", line.strip())
    return name.lstrip(" ._/()-")[:MODEL_CHARS_MAX].rstrip()
