"""One line of JSON for each thing worth telling, without secrets, with the request it belongs to."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.types import EventDict, Processor, WrappedLogger

_SECRET_KEY = re.compile(r"passw|token|secret|authorization|cookie|api_?key|credential|pepper", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=Bearer )\S+", re.IGNORECASE)
REDACTED = "[redacted]"


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Structlog processor: leaves out what is named like a secret, credentials in URLs, bearer tokens."""
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: object, value: Any) -> Any:
    if isinstance(key, str) and _SECRET_KEY.search(key) and not isinstance(value, (bool, int, type(None))):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_VALUE.sub(REDACTED, value)
    if isinstance(value, Mapping):
        return {inner: _redacted(inner, one) for inner, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(None, one) for one in value]
    return value


def _json(event: EventDict, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Logs to `stream` (standard output): JSON, or something to look at if that is a terminal.

    The standard library's loggers (aiohttp, asyncio, nats) speak through the same.
    What is bound with `structlog.contextvars` (`correlation_id`) is part of each line.
    """
    stream = stream or sys.stdout

    def named(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        named,
    ]
    render: Processor = structlog.processors.JSONRenderer(serializer=_json)
    last: list[Processor] = [
        ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
        structlog.dev.ConsoleRenderer() if stream.isatty() else render,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ProcessorFormatter(processors=last, foreign_pre_chain=shared))
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
