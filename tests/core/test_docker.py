"""Which engine is chosen, and that one of our own comes and goes without a trace."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from core.services import docker
from core.services.docker import DockerFailed, PrivateDocker, answers, find
from tests.docker import dockerd

__all__ = ["dockerd"]

needs_docker = pytest.mark.skipif(bool(docker.cannot_start_one()), reason=docker.cannot_start_one())


async def test_the_setting_wins_whether_it_answers_or_not(tmp_path: Path) -> None:
    choice = await find(f"unix://{tmp_path}/nothing.sock", tmp_path)
    assert (choice.how, choice.url) == ("setting", f"unix://{tmp_path}/nothing.sock")
    assert "does not answer yet" in choice.reason


async def test_containers_can_be_switched_off(tmp_path: Path) -> None:
    assert (await find("none", tmp_path)).how == "none"


async def test_a_socket_that_answers_is_used(dockerd: PrivateDocker, tmp_path: Path) -> None:
    choice = await find("", tmp_path, socket=Path(dockerd.url.removeprefix("unix://")))
    assert (choice.how, choice.url) == ("socket", dockerd.url)


@needs_docker
async def test_without_an_engine_there_is_one_of_our_own(tmp_path: Path) -> None:
    choice = await find("", tmp_path, socket=tmp_path / "nothing.sock")
    assert (choice.how, choice.url) == ("private", PrivateDocker(tmp_path).url)


async def test_without_dockerd_there_is_none_and_the_reason_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    choice = await find("", tmp_path, socket=tmp_path / "nothing.sock")
    assert (choice.how, choice.url) == ("none", "")
    assert choice.reason.endswith("dockerd is not installed")


async def test_only_root_starts_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    choice = await find("", tmp_path, socket=tmp_path / "nothing.sock")
    assert choice.reason.endswith("only root can start one")


@pytest.mark.parametrize("url", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "nonsense"])
async def test_what_does_not_answer_does_not_answer(url: str) -> None:
    assert not await answers(url)


def traces(folder: Path) -> list[str]:
    """Whatever an engine with this data directory may leave behind."""
    key = docker.platform_id(folder)
    found = [
        line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line or key in line
    ]
    found += [
        str(path)
        for path in (Path("/run", f"stratus-{key}"), Path("/sys/class/net", f"stratus{key}"))
        if path.exists()
    ]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/stratus-{key}")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            found += [line for line in [docker.command_line(int(entry.name))] if f"stratus-{key}" in line]
    return found


@needs_docker
async def test_an_engine_of_our_own_leaves_no_trace_even_when_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / ("a-rather-long-name-" * 8)  # no socket could lie in there
    engine = PrivateDocker(folder)
    await engine.start()
    assert await answers(engine.url)
    assert traces(folder) != []
    assert engine.process is not None
    engine.process.kill()
    await engine.process.wait()
    await engine.start()
    assert await answers(engine.url)
    await engine.stop()
    assert traces(folder) == []
    shutil.rmtree(folder)


@needs_docker
async def test_an_engine_that_outlived_its_platform_makes_room_for_the_next(tmp_path: Path) -> None:
    old, new = PrivateDocker(tmp_path), PrivateDocker(tmp_path)
    await old.start()
    await new.start()
    assert old.process is not None
    assert await old.process.wait() == 0
    assert await answers(new.url)
    await new.stop()
    assert traces(tmp_path) == []
    shutil.rmtree(tmp_path / "docker")


@needs_docker
async def test_two_engines_stand_side_by_side(dockerd: PrivateDocker, tmp_path: Path) -> None:
    other = PrivateDocker(tmp_path)
    await other.start()
    assert all(await asyncio.gather(answers(dockerd.url), answers(other.url)))
    await other.stop()
    shutil.rmtree(tmp_path / "docker")


@needs_docker
async def test_an_engine_that_can_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/data").write_text("no folder")
    with pytest.raises(DockerFailed, match=r"dockerd ended: .*docker/data"):
        await PrivateDocker(tmp_path).start()
    assert traces(tmp_path) == []
