"""What a log line carries, and what it never does."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from core import telemetry


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure("gateway", "info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def only(lines: io.StringIO) -> dict[str, Any]:
    [line] = lines.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_a_line_says_when_how_bad_who_and_what(lines: io.StringIO) -> None:
    structlog.get_logger("gateway.edge").info("ready", port=8080)
    line = only(lines)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "gateway.edge",
        "service": "gateway",
        "event": "ready",
        "port": 8080,
    }


def test_a_line_names_the_request_it_belongs_to(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(correlation_id="c-1"):
        structlog.get_logger("x").info("told")
    assert only(lines)["correlation_id"] == "c-1"


def test_libraries_speak_the_same_way(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(correlation_id="c-2"):
        logging.getLogger("aiohttp.server").warning("broken %s", "pipe")
    line = only(lines)
    assert (line["event"], line["level"], line["logger"], line["correlation_id"]) == (
        "broken pipe",
        "warning",
        "aiohttp.server",
        "c-2",
    )


def test_what_is_below_the_level_is_not_said(lines: io.StringIO) -> None:
    structlog.get_logger("x").debug("details")
    assert lines.getvalue() == ""


def test_secrets_are_never_said(lines: io.StringIO) -> None:
    structlog.get_logger("x").warning(
        "connecting to nats://t0ken@127.0.0.1:4222",
        password="hunter2",
        headers={"Authorization": "Bearer abc", "Accept": "*/*"},
        jwt_secret=b"hunter3",
        said=["Bearer abc", {"api_key": "k"}],
        token_minutes=30,
    )
    text = lines.getvalue()
    for secret in ("t0ken", "hunter", "abc", '"k"'):
        assert secret not in text
    line = json.loads(text)
    assert line["headers"]["Accept"] == "*/*"
    assert line["token_minutes"] == 30


def test_an_exception_is_one_line_too_and_keeps_its_secrets(lines: io.StringIO) -> None:
    try:
        raise ValueError("postgresql://stratus:hunter2@db/stratus")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    line = only(lines)
    assert "ValueError" in line["exception"]
    assert "hunter2" not in line["exception"]
