"""Starts the platform's processes, keeps them up, and takes every one of them down with it.

A child is ready when its own check says so or, without one, when it prints the
JSON line whose `event` is `ready`. Whatever way the supervisor ends, `kill -9`
included, its children end too: the kernel signals them when their parent is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from core.services.logfile import LogFile
from core.services.process import dies_with_parent, kill_group

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
HEALTHY_S = 30.0
"""Whoever lived this long starts the next time without delay."""
READY_S = 60.0
START_ATTEMPTS = 3
LINE_BYTES = 1 << 20

State = Literal["waiting", "starting", "ready", "failed", "stopped"]
Hook = Callable[[], Coroutine[Any, Any, None]]


class User(Struct, frozen=True):
    """Whom a child runs as, if not as ourselves."""

    uid: int
    gid: int


class Child(Struct, frozen=True, kw_only=True):
    """One process to keep up.

    `after` names children that must be ready first; all others may go on without
    one that is `optional`. `prepare` runs before each start, `after_drain` when it
    was asked to end and has. `orphan_signal` is what the kernel sends it when the
    supervisor is gone.
    """

    name: str
    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    optional: bool = False
    prepare: Hook | None = None
    ready: Hook | None = None
    after_drain: Hook | None = None
    user: User | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    stop_s: float = 8.0


class StartFailed(Exception):
    """A child did not become ready; the message says which, and what it said last."""


class Fatal(Exception):
    """Raised by a hook: trying again will not help."""


class Supervisor:
    """`start`, then `stop` once; both in the same loop. `report` hears of every change of state."""

    def __init__(
        self,
        children: Sequence[Child],
        logs: Path,
        report: Callable[[str, State, str], None] = lambda name, state, detail: None,
        echo: Callable[[str, str], None] | None = None,
    ) -> None:
        self._keepers = {child.name: _Keeper(child, self, LogFile(logs, child.name)) for child in children}
        self.report, self.echo = report, echo

    async def start(self, timeout_s: float = READY_S) -> None:
        """Returns when all are ready. Raises `StartFailed`; then `stop` is still to be called."""
        for keeper in self._keepers.values():
            keeper.task = asyncio.create_task(keeper.keep())
        settled = asyncio.gather(*(self._settled(keeper) for keeper in self._keepers.values()))
        needed = [keeper for keeper in self._keepers.values() if not keeper.child.optional]
        ends: list[asyncio.Future[Any]] = [settled, *(keeper.broken for keeper in needed)]
        done, _ = await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if settled in done:
            return
        settled.cancel()
        with suppress(asyncio.CancelledError):
            await settled
        for keeper in needed:
            if keeper.broken.done():
                raise StartFailed(f"{keeper.child.name} does not start: {keeper.broken.result()}")
        late = next(keeper for keeper in self._keepers.values() if not keeper.ready.is_set())
        raise StartFailed(f"{late.child.name} was not ready within {timeout_s:.0f} s: {late.last_words()}")

    async def _settled(self, keeper: _Keeper) -> None:
        """Returns when it is ready, or known to be of no use and not needed."""
        ready = asyncio.create_task(keeper.ready.wait())
        ends: list[asyncio.Future[Any]] = [ready]
        if keeper.child.optional:
            ends += [keeper.broken, *(self._keepers[name].broken for name in keeper.child.after)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()

    async def stop(self) -> None:
        """Drains the children, the last one first, each within its deadline."""
        for keeper in reversed(self._keepers.values()):
            await keeper.end()

    def kill(self) -> None:
        """At once, without draining; nothing is started again, and `stop` returns soon after."""
        for keeper in self._keepers.values():
            keeper.ending = True
            keeper.kill()

    def is_ready(self, name: str) -> bool:
        return self._keepers[name].ready.is_set()

    async def until_ready(self, name: str) -> None:
        await self._keepers[name].ready.wait()

    def pids(self) -> dict[str, int]:
        """Of those that run."""
        return {
            name: keeper.process.pid
            for name, keeper in self._keepers.items()
            if keeper.process is not None and keeper.process.returncode is None
        }


class _Keeper:
    """One child, over all of its lives."""

    def __init__(self, child: Child, supervisor: Supervisor, log: LogFile) -> None:
        self.child = child
        self.ready = asyncio.Event()
        self.broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.process: asyncio.subprocess.Process | None = None
        self.task: asyncio.Task[None] | None = None
        self._supervisor, self._log = supervisor, log
        self._said: deque[str] = deque(maxlen=12)
        self.ending = False
        self._hook: asyncio.Future[None] | None = None

    async def keep(self) -> None:
        for name in self.child.after:
            await self._supervisor.until_ready(name)
        loop, delay, attempts = asyncio.get_running_loop(), FIRST_DELAY_S, 0
        while True:
            born, was_ready = loop.time(), self.ready.is_set()
            self.ready.clear()
            self._tell("starting")
            try:
                reason = await self._live()
            except Fatal as error:
                reason, attempts = str(error), START_ATTEMPTS
            except Exception as error:  # of a hook, or of exec: as good as a death
                reason = str(error) or type(error).__name__
            if self.ending:
                return
            lived_up = self.ready.is_set()
            self.ready.clear()
            if lived_up or was_ready:
                attempts = 0
            else:
                attempts += 1
            if attempts >= START_ATTEMPTS and not self.broken.done():
                self.broken.set_result(f"{reason}: {self.last_words()}")
            if loop.time() - born > HEALTHY_S:
                delay = FIRST_DELAY_S
            self._tell("failed", f"{reason}; starting again in {delay:.1f} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_S)

    async def _live(self) -> str:
        """From birth to death; how it ended."""
        child, user = self.child, self.child.user
        self.process = None
        if child.prepare is not None:
            await child.prepare()
        # a pipe of asyncio's own would keep `wait` waiting for all who hold it, grandchildren too
        output, of_child = os.pipe()
        lines = asyncio.StreamReader(limit=LINE_BYTES)
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(output, "rb", 0)
        )
        relay = asyncio.create_task(self._relay(lines))
        check: asyncio.Task[None] | None = None
        try:
            self.process = process = await asyncio.create_subprocess_exec(
                *child.argv,
                env=child.env,
                stdin=subprocess.DEVNULL,
                stdout=of_child,
                stderr=of_child,
                process_group=0,
                preexec_fn=dies_with_parent(child.orphan_signal),
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
            os.close(of_child)
            of_child = -1
            if child.ready is not None:
                check = asyncio.create_task(self._check(child.ready))
            code = await process.wait()
            kill_group(process.pid)
            await asyncio.wait((relay,), timeout=1)
        finally:
            if of_child >= 0:
                os.close(of_child)
            if check is not None:
                check.cancel()
            if self.process is not None:
                kill_group(self.process.pid)
            relay.cancel()
            pipe.close()
        if check is not None and check.done() and not check.cancelled() and (error := check.exception()):
            raise error
        return f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def _check(self, ready: Hook) -> None:
        try:
            await ready()
        except Fatal:
            self.kill()
            raise
        self._is_ready()

    async def _relay(self, lines: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await lines.readline()
            except ValueError:
                continue  # longer than any line of ours: dropped
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._log.write(text)
            self._said.append(text)
            if self._supervisor.echo is not None:
                self._supervisor.echo(self.child.name, text)
            if self.child.ready is None and not self.ready.is_set() and _says_ready(text):
                self._is_ready()

    def _is_ready(self) -> None:
        self.ready.set()
        self._tell("ready")

    async def end(self) -> None:
        self.ending = True
        process = self.process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(self.child.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.child.stop_s)
            except TimeoutError:
                self.kill()
                await process.wait()
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
        problem = await self._after_drain()
        self._log.close()
        self._tell("stopped", problem)

    async def _after_drain(self) -> str:
        """What went wrong, which must not keep the others from being ended; '' if nothing."""
        if self.child.after_drain is None:
            return ""
        self._hook = asyncio.ensure_future(self.child.after_drain())
        await asyncio.wait((self._hook,))
        if self._hook.cancelled():
            return "given up"
        error = self._hook.exception()
        return str(error) or type(error).__name__ if error is not None else ""

    def kill(self) -> None:
        if self._hook is not None:
            self._hook.cancel()
        if self.process is not None and self.process.returncode is None:
            kill_group(self.process.pid)

    def last_words(self) -> str:
        return " | ".join(list(self._said)[-4:]) or "it said nothing"

    def _tell(self, state: State, detail: str = "") -> None:
        if not self.ending or state == "stopped":
            self._supervisor.report(self.child.name, state, detail)


def _says_ready(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        return bool(json.loads(line).get("event") == "ready")
    except ValueError:
        return False
