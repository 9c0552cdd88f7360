"""What the driver tells of its GPUs, by a driver that is only its one program."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.agents.gpus import Gpus, find

Driver = Callable[[str], None]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Installs an `nvidia-smi` that runs this shell script."""

    def install(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return install


async def test_the_gpus_of_a_machine_are_counted(driver: Driver) -> None:
    driver('test "$*" = "--query-gpu=name --format=csv,noheader" && printf "Tesla T4\\nTesla T4\\n"')
    assert await find() == Gpus("Tesla T4", (0, 1))


async def test_of_several_models_the_most_frequent_one_counts_and_keeps_its_numbers(driver: Driver) -> None:
    driver("printf 'Tesla T4\\nNVIDIA H100 80GB HBM3\\n[Unknown Error]\\nNVIDIA H100 80GB HBM3\\n'")
    assert await find() == Gpus("NVIDIA H100 80GB HBM3", (1, 3))


async def test_a_name_becomes_one_that_a_cluster_may_be_told(driver: Driver) -> None:
    driver(f"echo ' (R) Graphics, 4® {'x' * 200}'")
    assert (await find()).model == f"R) Graphics- 4- {'x' * 84}"


@pytest.mark.parametrize(
    "script", ["exit 9", "echo No devices were found; exit 6", "echo No devices were found", "true"]
)
async def test_a_driver_that_fails_or_has_none_means_none(driver: Driver, script: str) -> None:
    driver(script)
    assert await find() == Gpus()


async def test_without_a_driver_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await find() == Gpus()


async def test_a_driver_that_hangs_is_not_waited_for(driver: Driver) -> None:
    driver("sleep 60 & sleep 60")
    began = time.monotonic()
    assert await find(patience_s=0.2) == Gpus()
    assert time.monotonic() - began < 5
