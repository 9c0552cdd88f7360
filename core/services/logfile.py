"""Where a child's output is kept: one file a day, a week of them."""

from __future__ import annotations

import logging
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

KEPT = 7


class LogFile:
    """Lines as they came. The folder is made when the first line is."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.log"
        self._handler: TimedRotatingFileHandler | None = None

    def write(self, line: str) -> None:
        if self._handler is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handler = TimedRotatingFileHandler(
                self._path, when="midnight", backupCount=KEPT, encoding="utf-8", errors="replace", utc=True
            )
        self._handler.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        if self._handler is not None:
            self._handler.close()
            self._handler = None
