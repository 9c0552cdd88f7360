"""`stratus events`: what has happened, from any moment on, as lines or as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.events import filter_of
from tests.broker import Broker
from tests.cli.conftest import Stratus


def told(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_it_shows_everything_in_order(stratus: Stratus) -> None:
    shown = stratus("events")
    assert shown.exit_code == 0
    first, second, third = shown.output.splitlines()
    assert first.split()[0] == "1"
    assert "NodeRegistered" in first
    assert "_.fleet.node-1" in first
    assert "ann" in first
    assert "NodeCordoned" in second
    assert "_.fleet.node-2" in third


def test_as_json_it_leaves_nothing_out(stratus: Stratus) -> None:
    _, cordoned, _ = told(stratus("events", "--json").output)
    at_ms = cordoned.pop("at_ms")
    assert at_ms > 1_700_000_000_000
    assert cordoned == {
        "position": 2,
        "tenant": "_",
        "context": "fleet",
        "key": "node-1",
        "event": {"type": "NodeCordoned", "node_id": "node-1", "at_ms": 1_795_000_000_000},
        "actor": "ann",
        "correlation": "request-1",
        "command": "c2",
    }


@pytest.mark.parametrize(
    ("since", "positions"),
    [
        ("0", [1, 2, 3]),
        ("2", [2, 3]),
        ("4", []),
        ("1h", [1, 2, 3]),
        ("2020-01-01", [1, 2, 3]),
        ("2100-01-01", []),
    ],
)
def test_it_begins_where_it_is_told(stratus: Stratus, since: str, positions: list[int]) -> None:
    assert [
        row["position"] for row in told(stratus("events", "--json", "--since", since).output)
    ] == positions


@pytest.mark.parametrize(
    ("subject", "positions"),
    [
        ("_.fleet.node-1", [1, 2]),
        ("*.*.node-2", [3]),
        ("org_7", []),
        ("_.>", [1, 2, 3]),
        ("*.containers", []),
    ],
)
def test_it_shows_what_the_subject_fits(stratus: Stratus, subject: str, positions: list[int]) -> None:
    rows = told(stratus("events", "--json", "--subject", subject).output)
    assert [row["position"] for row in rows] == positions


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--subject", "a b", "tenant.context.key"),
        ("--subject", "a.b.c.d", "three parts"),
        ("--since", "yesterday", "a position"),
    ],
)
def test_what_it_does_not_understand_it_says(
    stratus: Stratus, option: str, value: str, complaint: str
) -> None:
    refused = stratus("events", option, value)
    assert refused.exit_code == 2
    assert complaint in refused.output


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        (">", "evt.*.*.*"),
        ("org_7", "evt.org_7.*.*"),
        ("evt.org_7.>", "evt.org_7.*.*"),
        ("*.containers.>", "evt.*.containers.*"),
        ("_.names.hostname:a%2Eb", "evt._.names.hostname:a%2Eb"),
    ],
)
def test_a_subject_is_completed(given: str, completed: str) -> None:
    assert filter_of(given) == completed


def test_a_subject_of_four_parts_is_no_subject() -> None:
    with pytest.raises(click.BadParameter):
        filter_of("a.b.c.d")


@pytest.mark.usefixtures("stratus")
def test_followed_it_goes_on_until_interrupted(broker: Broker) -> None:
    script = "from gateway.cli import main; main()"
    following = subprocess.Popen(
        [sys.executable, "-c", script, "events", "--follow", "--json", "--nats", broker.url],
        stdout=subprocess.PIPE,
        env=dict(os.environ) | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert following.stdout is not None
    positions = [json.loads(following.stdout.readline())["position"] for _ in range(3)]
    following.send_signal(signal.SIGINT)
    assert following.wait() == 130
    following.stdout.close()
    assert positions == [1, 2, 3]


def test_without_a_platform_it_says_how_to_start_one(tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["events", "--data", str(tmp_path)])
    assert refused.exit_code == 1
    assert "start one with `stratus up`" in refused.output


def test_a_server_that_does_not_answer_is_named_without_its_token(tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["events", "--nats", "nats://t0ken@127.0.0.1:1"])
    assert refused.exit_code == 1
    assert "NATS does not answer at 127.0.0.1:1" in refused.output
    assert "t0ken" not in refused.output
