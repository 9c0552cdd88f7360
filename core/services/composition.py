"""Which processes make a platform, and how each finds the others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from core.services.docker import Choice, PrivateDocker, platform_id, stop_everything
from core.services.nats import Nats
from core.services.postgres import Postgres
from core.services.process import born
from core.services.running import Process, Running
from core.services.supervisor import Child
from core.settings import Settings, keep_secret

ROOT = Path(__file__).parents[2]
"""Where the packages are, installed or not."""


class Platform:
    """The children, in the order they are started; they are drained in the opposite one."""

    def __init__(self, settings: Settings, docker: Choice, environ: Mapping[str, str]) -> None:
        self.settings, self.docker, self._environ = settings, docker, environ
        self.url = f"http://{settings.host}:{settings.port}"
        self.nats_url, self.nats_monitor = settings.nats_url, ""
        self.postgres_url = settings.postgres_url
        self.children: list[Child] = []
        if not settings.nats_url:
            nats = Nats(
                settings.data_dir, settings.sync_interval, keep_secret(settings.data_dir, "nats_token")
            )
            self.nats_url, self.nats_monitor = nats.url, nats.monitor
            self.children.append(nats.child())
        if not settings.postgres_url:
            postgres = Postgres(settings.data_dir)
            self.postgres_url = postgres.url
            self.children.append(postgres.child())
        if docker.how == "private":
            self.children.append(self._engine(PrivateDocker(settings.data_dir), environ))
        self._env = dict(environ) | self._told()
        self.children.append(self._python("handlers", "handlers", "nats"))
        self.children.append(self._python("projections", "projections", "nats", "postgres"))
        if docker.url:
            self.children.append(self._agent())
        self.children.append(self._python("gateway", "gateway", "nats", "postgres"))

    def _told(self) -> dict[str, str]:
        settings = self.settings
        return {
            "STRATUS_DATA_DIR": str(settings.data_dir),
            "STRATUS_HOST": settings.host,
            "STRATUS_PORT": str(settings.port),
            "STRATUS_NATS_URL": self.nats_url,
            "STRATUS_POSTGRES_URL": self.postgres_url,
            "STRATUS_DOCKER_URL": self.docker.url or "none",
            "STRATUS_SYNC_INTERVAL": settings.sync_interval,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), self._environ.get("PYTHONPATH", "")))),
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",
        }

    def _python(self, name: str, module: str, *after: str) -> Child:
        ours = {child.name for child in self.children}
        return Child(
            name=name,
            argv=(sys.executable, "-P", "-m", module),
            env=self._env,
            after=tuple(one for one in after if one in ours),
        )

    def _agent(self) -> Child:
        agent = self._python("agent", "handlers.agents.node", "nats", "docker")

        async def stop_containers() -> None:
            ours = platform_id(self.settings.data_dir)
            await stop_everything(self.docker.url, self.settings.node_id, ours)

        return msgspec.structs.replace(agent, optional=True, after_drain=stop_containers)

    @staticmethod
    def _engine(docker: PrivateDocker, environ: Mapping[str, str]) -> Child:
        return Child(
            name="docker",
            argv=docker.argv(),
            env=dict(environ),
            optional=True,
            prepare=docker.prepare,
            ready=docker.ready,
            after_drain=docker.clear,
            orphan_signal=signal.SIGTERM,
            stop_s=20.0,
        )

    def running(self, pids: Mapping[str, int], ready: bool) -> Running:
        return Running(
            supervisor=Process(os.getpid(), born(os.getpid())),
            ready=ready,
            url=self.url,
            nats_url=self.nats_url,
            nats_monitor=self.nats_monitor,
            postgres_url=self.postgres_url,
            docker_url=self.docker.url,
            docker_reason=self.docker.reason,
            processes={name: Process(pid, born(pid)) for name, pid in pids.items()},
        )
