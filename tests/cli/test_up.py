"""`stratus up` as people run it: the whole platform, in processes of its own, without containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.services.process import born
from core.services.running import Running
from gateway.cli import main
from tests.broker import free_port

SCRIPT = (sys.executable, "-c", "from gateway.cli import main; main()")
ROOT = Path(__file__).parents[2]


class Up:
    """One `stratus up`, and what it says of itself."""

    def __init__(self, folder: Path) -> None:
        self.data, self.port = folder / "data", free_port()
        self.process = self.run()

    def run(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*SCRIPT, "up", "--no-docker", "--data", str(self.data), "--port", str(self.port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, condition: Callable[[Running], bool]) -> Running:
        for _ in range(1200):
            running = Running.read(self.data)
            if running is not None and condition(running):
                return running
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.05)
        raise AssertionError(f"not so within a minute: {Running.read(self.data)}")

    def ready(self) -> Running:
        return self.until(lambda running: running.ready and all(p.lives for p in running.processes.values()))

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--data", str(self.data)], env={"COLUMNS": "200"})


@contextmanager
def folder() -> Iterator[Path]:
    """Not pytest's: that closes its folders to others at every start, and Postgres may be another."""
    with tempfile.TemporaryDirectory(prefix="stratus-test-") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with folder() as made:
        yield from _up(made)


def _up(made: Path) -> Iterator[Up]:
    platform = Up(made)
    yield platform
    platform.process.terminate()
    said, _ = platform.process.communicate(timeout=60)
    assert said.endswith("Stopped.\n")
    assert platform.process.returncode == 0


def test_it_says_where_everything_is(up: Up) -> None:
    running = up.ready()
    assert set(running.processes) == {"nats", "postgres", "handlers", "projections", "gateway"}
    with urllib.request.urlopen(f"{running.url}/health") as answer:
        assert json.load(answer)["components"]["log"]["status"] == "connected"


def test_only_its_owner_can_read_how_to_reach_its_servers(up: Up) -> None:
    up.ready()
    assert (up.data / "runtime.json").stat().st_mode & 0o777 == 0o600


def test_a_second_one_in_the_same_place_is_refused(up: Up) -> None:
    up.ready()
    second = up.run()
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"a platform runs in {up.data} already (process {up.process.pid})" in said


def test_a_second_one_at_the_same_port_is_refused(up: Up, tmp_path: Path) -> None:
    up.ready()
    refused = CliRunner().invoke(main, ["up", "--data", str(tmp_path), "--port", str(up.port)])
    assert refused.exit_code == 1
    assert f"can not listen at 127.0.0.1:{up.port}" in refused.output


@pytest.mark.parametrize("name", ["gateway", "handlers", "projections", "nats", "postgres"])
def test_whatever_is_killed_comes_back(up: Up, name: str) -> None:
    pid = up.ready().processes[name].pid
    os.kill(pid, signal.SIGKILL)
    up.until(lambda running: name in running.processes and running.processes[name].pid != pid)
    up.ready()


def test_the_doctor_finds_nothing_wrong(up: Up) -> None:
    up.ready()
    found = up.call("doctor")
    assert found.exit_code == 0, found.output
    assert "the server says: always" in found.output


def test_the_status_shows_every_process(up: Up) -> None:
    running = up.ready()
    shown = up.call("status")
    assert shown.exit_code == 0, shown.output
    for name in ("supervisor", *running.processes):
        assert name in shown.output


def test_a_replay_agrees_with_the_gateway_and_with_postgres(up: Up) -> None:
    up.ready()
    replayed = up.call("audit", "replay", "--quiet")
    assert replayed.exit_code == 0, replayed.output
    assert "The replay agrees." in replayed.output
    assert "gateway" in replayed.output
    assert "Postgres" in replayed.output


def test_a_shell_is_told_how_to_reach_it(up: Up) -> None:
    running = up.ready()
    assert f"export STRATUS_URL={running.url}\n" in up.call("env").output


def test_python_processes_together_stay_small_when_idle(up: Up) -> None:
    from core.services.process import memory_kib

    running = up.ready()
    ours = [process.pid for name, process in running.processes.items() if name not in ("nats", "postgres")]
    assert sum(map(memory_kib, [running.supervisor.pid, *ours])) < 350 * 1024


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    with folder() as made:
        yield made


def test_a_killed_one_leaves_nothing_behind_and_the_next_one_starts(elsewhere: Path) -> None:
    first = Up(elsewhere)
    running = first.ready()
    first.process.kill()
    first.process.communicate()
    for process in running.processes.values():
        for _ in range(400):
            if not born(process.pid):
                break
            time.sleep(0.05)
        assert not process.lives
    first.process = first.run()
    first.ready()
    first.process.send_signal(signal.SIGINT)
    said, _ = first.process.communicate(timeout=60)
    assert first.process.returncode == 0
    assert "Stopped." in said


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    refused = CliRunner().invoke(
        main, ["up", "--data", str(tmp_path)], env={"STRATUS_SYNC_INTERVAL": "sometimes"}
    )
    assert refused.exit_code == 1
    assert "STRATUS_SYNC_INTERVAL" in refused.output
