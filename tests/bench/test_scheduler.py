"""The scheduler can be played any trace, and says the same however Python shuffles its sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.scheduler import main

NODES = """sn,cpu_milli,memory_mib,gpu,model
small,8000,16384,1,T4
large,64000,262144,8,G2
plain,32000,65536,0,
"""
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec
half,4000,4096,1,500,
whole,8000,8192,1,1000,G2|G3
eight,8000,8192,8,1000,
none,16000,4096,0,0,
"""
ORDER = "0 0 1 3 2 0\n2 0 1\n"
PLACED = """request,node,devices,reason
half,small,0,
half,small,0,
whole,large,0,
none,plain,,
eight,,,"no node fits, for want of: 3 GPUs"
half,large,1,
"""


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_a_trace_is_played_to_the_same_end_under_any_hash_seed(tmp_path: Path, seed: str) -> None:
    files = {"nodes.csv": NODES, "pods.csv": PODS, "order.txt": ORDER}
    paths = [tmp_path / name for name in files]
    for path in paths:
        path.write_text(files[path.name])
    out = tmp_path / "placements.csv"
    played = subprocess.run(
        [sys.executable, "-m", "bench.scheduler", *map(str, paths), "--out", str(out)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert out.read_text() == PLACED
    said = json.loads(played.stdout)
    assert (said["requests"], said["placed"], said["used_gpu_milli"]) == (6, 5, 2500)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (
            "nodes.csv",
            NODES.replace("8000", "x"),
            "line 2: cpu_milli has to be a whole number, not 'x'",
        ),
        ("nodes.csv", NODES.replace("8000", "-5"), "line 2: cpu_milli has to be a whole number, not '-5'"),
        ("nodes.csv", NODES.replace(",model", ""), "line 2: there is no column model"),
        ("pods.csv", PODS.replace("num_gpu", "gpus"), "line 2: there is no column num_gpu"),
        ("order.txt", "0 9\n2 0 1\n", "line 1: '9' is not from 0 to 3, as the requests are"),
        ("order.txt", "0\n2 0\n", "line 2: every one of the 3 nodes has to be named once"),
        ("order.txt", "", ""),
    ],
)
def test_a_trace_that_can_not_be_read_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, complaint: str
) -> None:
    files = {"nodes.csv": NODES, "pods.csv": PODS, "order.txt": ORDER, name: text}
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    arguments = [str(tmp_path / file) for file in ("nodes.csv", "pods.csv", "order.txt")]
    if not complaint:  # nobody arrives, and that is that
        main(arguments)
        assert json.loads(capsys.readouterr().out)["requests"] == 0
        return
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert f"{tmp_path / name}, {complaint}" in capsys.readouterr().err


def test_a_trace_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["/nowhere.csv", "/nowhere.csv", "/nowhere.txt"])
    assert "/nowhere.csv: " in capsys.readouterr().err
