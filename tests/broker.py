"""A real nats-server of the test's own: on a free port, in a temporary folder, ended by pid."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

CONFIG = """
listen: 127.0.0.1:{port}
server_name: "{name}"
jetstream {{ store_dir: "{folder}/jetstream", sync_interval: {sync} }}
max_payload: 8MB
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Broker:
    def __init__(self, folder: Path, sync: str = "always") -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._name = f"test-{self.port}"
        self._config = folder / "nats.conf"
        self._config.write_text(CONFIG.format(port=self.port, name=self._name, folder=folder, sync=sync))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        server = Path(sys.executable).with_name("nats-server")
        self._process = subprocess.Popen([server, "-c", self._config], stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 0.2) as connection:
                    assert self._name.encode() in connection.recv(4096), "another server answers on our port"
                    return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("nats-server did not start")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
