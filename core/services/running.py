"""What runs in a data directory, and that it is one platform at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, field

from core.services.process import born, kill_group


class Process(Struct, frozen=True):
    """`born` tells it from a later process with the same pid."""

    pid: int
    born: int

    @property
    def lives(self) -> bool:
        return self.born != 0 and born(self.pid) == self.born


class Running(Struct, frozen=True, kw_only=True):
    """What `runtime.json` says of a platform, for those who look for it. It holds credentials."""

    supervisor: Process
    ready: bool
    url: str
    nats_url: str
    nats_monitor: str
    postgres_url: str
    docker_url: str
    docker_reason: str
    processes: dict[str, Process] = field(default_factory=dict)

    def write(self, data_dir: Path) -> None:
        draft = data_dir / ".runtime.json"
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        draft.rename(data_dir / "runtime.json")

    @staticmethod
    def read(data_dir: Path) -> Running | None:
        """None if none has ever run there."""
        try:
            return msgspec.json.decode((data_dir / "runtime.json").read_bytes(), type=Running)
        except (FileNotFoundError, msgspec.DecodeError):
            return None


class AlreadyRunning(Exception):
    """Another platform uses this data directory."""


def claim(data_dir: Path) -> int:
    """Makes the data directory ours, and ends what a killed predecessor may have left.

    Holds for as long as the returned descriptor is open. Raises `AlreadyRunning`.
    """
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    before = Running.read(data_dir)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        who = f" (process {before.supervisor.pid})" if before else ""
        raise AlreadyRunning(
            f"a platform runs in {data_dir} already{who}: stop it, or choose another --data"
        ) from None
    for name, process in (before.processes if before else {}).items():
        if name not in ("postgres", "docker") and process.lives:  # those two see to their own past
            kill_group(process.pid)
    with suppress(FileNotFoundError):
        (data_dir / "runtime.json").unlink()
    return lock
