"""What is started together goes down together, whatever happens; real processes, small ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from core.services.process import born
from core.services.supervisor import Child, Fatal, StartFailed, Supervisor

READY = 'print(\'{"event":"ready"}\', flush=True)'
SLEEP = "import time; time.sleep(600)"


def script(*lines: str) -> tuple[str, ...]:
    return (sys.executable, "-c", "\n".join(lines))


DEAF = script("import signal", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", READY, SLEEP)


class Report:
    """Everything a supervisor told, and a way to wait for more."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.details: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, name: str, state: str, detail: str) -> None:
        self.heard.append((name, state))
        self.details.append(detail)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self._news.wait()
                self._news.clear()

    def of(self, state: str) -> list[str]:
        return [name for name, one in self.heard if one == state]


@pytest.fixture
def report() -> Report:
    return Report()


@pytest.fixture
async def supervise(tmp_path: Path, report: Report) -> AsyncIterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*children: Child, **more: Any) -> Supervisor:
        made.append(Supervisor(children, tmp_path / "logs", report, **more))
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.stop()


async def test_a_child_is_ready_when_it_says_so(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    supervisor = supervise(Child(name="one", argv=script("print('hello')", READY, SLEEP)))
    await supervisor.start()
    assert supervisor.is_ready("one")
    assert (tmp_path / "logs/one.log").read_text() == 'hello\n{"event":"ready"}\n'


async def test_a_child_waits_for_those_it_needs(supervise: Callable[..., Supervisor], report: Report) -> None:
    second = Child(name="second", argv=script(READY, SLEEP), after=("first",))
    await supervise(second, Child(name="first", argv=script(READY, SLEEP))).start()
    assert report.heard == [
        ("first", "starting"),
        ("first", "ready"),
        ("second", "starting"),
        ("second", "ready"),
    ]


async def test_what_dies_is_started_again_and_later_each_time(
    supervise: Callable[..., Supervisor], report: Report
) -> None:
    supervisor = supervise(Child(name="one", argv=script(READY, SLEEP)))
    await supervisor.start()
    for deaths in (1, 2):
        os.kill(supervisor.pids()["one"], signal.SIGKILL)
        await report.until(lambda deaths=deaths: len(report.of("ready")) == deaths + 1)  # type: ignore[misc]
    failures = [
        detail for (_, state), detail in zip(report.heard, report.details, strict=True) if state == "failed"
    ]
    assert failures == [
        "ended with SIGKILL; starting again in 0.2 s",
        "ended with SIGKILL; starting again in 0.4 s",
    ]


async def test_a_child_that_never_comes_up_fails_the_start_with_its_last_words(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(Child(name="broken", argv=script("import sys", "sys.exit('no such luck')")))
    with pytest.raises(StartFailed, match=r"broken does not start: ended with exit code 1: .*no such luck"):
        await supervisor.start()


async def test_a_child_that_takes_too_long_fails_the_start(supervise: Callable[..., Supervisor]) -> None:
    with pytest.raises(StartFailed, match="slow was not ready within 0 s"):
        await supervise(Child(name="slow", argv=script(SLEEP))).start(timeout_s=0.3)


async def test_a_check_that_can_never_succeed_fails_the_start_at_once(
    supervise: Callable[..., Supervisor], report: Report
) -> None:
    async def too_old() -> None:
        raise Fatal("too old")

    supervisor = supervise(Child(name="one", argv=script(SLEEP), ready=too_old))
    with pytest.raises(StartFailed, match="too old"):
        await supervisor.start()
    assert report.of("starting") == ["one"]


async def test_the_others_go_on_without_an_optional_child_and_those_that_need_it(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(
        Child(name="engine", argv=("/no/such/program",), optional=True),
        Child(name="agent", argv=script(READY, SLEEP), after=("engine",), optional=True),
        Child(name="gateway", argv=script(READY, SLEEP)),
    )
    await supervisor.start()
    assert list(supervisor.pids()) == ["gateway"]


async def test_children_are_drained_in_the_opposite_order(
    supervise: Callable[..., Supervisor], report: Report
) -> None:
    drains = script(
        "import signal, sys, time",
        "def drain(*_): time.sleep(0.2); print('drained', flush=True); sys.exit()",
        "signal.signal(signal.SIGTERM, drain)",
        READY,
        "time.sleep(600)",
    )
    supervisor = supervise(*(Child(name=name, argv=drains) for name in ("a", "b", "c")))
    await supervisor.start()
    await supervisor.stop()
    assert report.of("stopped") == ["c", "b", "a"]
    assert supervisor.pids() == {}


async def test_a_child_that_does_not_drain_in_time_is_killed(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    supervisor = supervise(Child(name="one", argv=DEAF, stop_s=0.2))
    await supervisor.start()
    pid = supervisor.pids()["one"]
    await supervisor.stop()
    assert not born(pid)


async def test_what_a_child_has_started_goes_with_it(
    supervise: Callable[..., Supervisor], report: Report, tmp_path: Path
) -> None:
    note = tmp_path / "grandchild"
    parent = script(
        "import pathlib, subprocess, sys, time",
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))",
        READY,
        "time.sleep(600)",
    )
    supervisor = supervise(Child(name="one", argv=parent))
    await supervisor.start()
    grandchild = int(note.read_text())
    await supervisor.stop()
    await vanish(grandchild)


async def test_a_hook_that_fails_after_the_drain_does_not_keep_the_others_up(
    supervise: Callable[..., Supervisor], report: Report
) -> None:
    async def fails() -> None:
        raise OSError("the engine is gone")

    supervisor = supervise(
        Child(name="a", argv=script(READY, SLEEP)),
        Child(name="b", argv=script(READY, SLEEP), after_drain=fails),
    )
    await supervisor.start()
    await supervisor.stop()
    assert report.of("stopped") == ["b", "a"]
    assert "the engine is gone" in report.details


async def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import asyncio, sys
                from pathlib import Path
                from core.services.supervisor import Child, Supervisor

                async def main():
                    argv = {DEAF!r}
                    children = [Child(name=name, argv=argv) for name in ("a", "b")]
                    supervisor = Supervisor(children, Path({str(tmp_path)!r}))
                    await supervisor.start()
                    print(*supervisor.pids().values(), flush=True)
                    await asyncio.sleep(600)

                asyncio.run(main())
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout is not None
    pids = [int(pid) for pid in supervisor.stdout.readline().split()]
    assert len(pids) == 2
    assert all(born(pid) for pid in pids)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    for pid in pids:
        await vanish(pid)


async def vanish(pid: int) -> None:
    async with asyncio.timeout(10):
        while born(pid):
            await asyncio.sleep(0.02)
