"""The scheduler on a trace: `python -m bench.scheduler NODES.csv PODS.csv ORDER.txt --out placements.csv`.

Nodes are `sn,cpu_milli,memory_mib,gpu,model`, requests
`name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec`, as openb has them. The order
has two lines: which requests arrive, and the permutation of the nodes by which ties
are broken. One request at a time, none leaves, and what fits nowhere fails. The
engine is the platform's own and learns the mix of work as it comes; the clock runs
for its decisions only, not for the sentences that say why somebody was refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import NamedTuple

from handlers.cluster import Cluster, Node
from handlers.request import Request
from handlers.shortage import shortage
from handlers.walk import Placed, walk

COLUMNS = ("request", "node", "devices", "reason")


class Trace(NamedTuple):
    nodes: list[dict[str, str]]
    pods: list[dict[str, str]]
    arrivals: list[int]
    ties: list[int]


class Row(NamedTuple):
    """One arrival and its place; `reason` is why it has none."""

    request: str
    node: str
    devices: str
    reason: str


class Run(NamedTuple):
    rows: list[Row]
    used_gpu_milli: int
    gpu_milli: int
    decide_ns: list[int]

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join(",".join(row[:3]) for row in self.rows).encode()).hexdigest()

    def summary(self) -> dict[str, object]:
        return {
            "requests": len(self.rows),
            "placed": sum(bool(row.node) for row in self.rows),
            "used_gpu_milli": self.used_gpu_milli,
            "gpu_milli": self.gpu_milli,
            "allocated_percent": round(100 * self.used_gpu_milli / max(1, self.gpu_milli), 2),
            "decisions_per_s": len(self.rows) * 10**9 // max(1, sum(self.decide_ns)),
            "sha256": self.sha256,
        }


class TraceIsWrong(Exception):
    """What is wrong, in which file and line, and what belongs there."""


def read(nodes: Path, pods: Path, order: Path) -> Trace:
    """Raises `TraceIsWrong`."""
    listed = _table(nodes, ("sn", "model"), ("cpu_milli", "memory_mib", "gpu"))
    asked = _table(pods, ("name",), ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli"))
    try:
        first, second, *_ = (*order.read_text().splitlines(), "", "")
    except (OSError, UnicodeDecodeError) as no:
        raise TraceIsWrong(f"{order}: {no}") from None
    arrivals = _indices(order, 1, first, len(asked), "requests")
    ties = _indices(order, 2, second, len(listed), "nodes") or list(range(len(listed)))
    if sorted(ties) != list(range(len(listed))):
        raise TraceIsWrong(f"{order}, line 2: every one of the {len(listed)} nodes has to be named once")
    return Trace(listed, asked, arrivals, ties)


def _table(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as no:
        raise TraceIsWrong(f"{path}: {no}") from None
    for line, row in enumerate(rows, start=2):
        for name in (*texts, *numbers):
            if row.get(name) is None:
                raise TraceIsWrong(f"{path}, line {line}: there is no column {name}")
        for name in numbers:
            if not ((text := row[name] or "0").isascii() and text.isdigit() and len(text) < 16):
                raise TraceIsWrong(f"{path}, line {line}: {name} has to be a whole number, not {text!r}")
    return rows


def _indices(path: Path, line: int, text: str, end: int, what: str) -> list[int]:
    for word in text.split():
        if not (word.isascii() and word.isdigit() and int(word) < end):
            raise TraceIsWrong(f"{path}, line {line}: {word!r} is not from 0 to {end - 1}, as the {what} are")
    return [int(word) for word in text.split()]


def request(pod: dict[str, str], sequence: int, priority: int = 0) -> Request:
    gpus = int(pod["num_gpu"] or 0)
    return Request(
        tenant="openb",
        container_id=f"{pod['name']}-{sequence}",
        run=1,
        cpu_milli=int(pod["cpu_milli"] or 0),
        memory_mib=int(pod["memory_mib"] or 0),
        gpus=gpus,
        gpu_milli=int(pod["gpu_milli"] or 0) if gpus else 0,
        gpu_models=tuple(spec.split("|")) if (spec := pod.get("gpu_spec") or "") and gpus else (),
        priority=priority,
        sequence=sequence,
    )


def cluster(nodes: Sequence[dict[str, str]], ties: Sequence[int]) -> tuple[Cluster, dict[str, str]]:
    """The cluster, and the `sn` of each of its nodes, which are named by rank: ties go by name."""
    found, serials = Cluster(name="openb"), dict[str, str]()
    for rank, index in enumerate(ties):
        row, node_id = nodes[index], f"{rank:06d}"
        serials[node_id] = row["sn"]
        found.books.offer(
            node_id,
            Node(int(row["cpu_milli"] or 0), int(row["memory_mib"] or 0), int(row["gpu"] or 0), row["model"]),
        )
    return found, serials


def play(trace: Trace) -> Run:
    home, serials = cluster(trace.nodes, trace.ties)
    books, rows, decide_ns, used = home.books, list[Row](), list[int](), 0
    for sequence, index in enumerate(trace.arrivals, 1):
        asked = request(trace.pods[index], sequence)
        began = perf_counter_ns()
        books.learn(asked.need)
        books.ask(asked)
        steps = walk(home, asked.line)
        books.journal.clear()
        decide_ns.append(perf_counter_ns() - began)
        match steps:
            case [Placed(node_id=node_id, devices=devices)]:
                used += asked.gpus * asked.gpu_milli
                place = ";".join(map(str, devices))
                rows.append(Row(trace.pods[index]["name"], serials[node_id], place, ""))
            case _:
                rows.append(Row(trace.pods[index]["name"], "", "", shortage(home, asked.need)))
                books.release(asked.key)
                books.journal.clear()
    gpu_milli = sum(1000 * node.gpus for node in home.nodes.values())
    return Run(rows, used, gpu_milli, decide_ns)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(prog="python -m bench.scheduler", description="Play a trace to the scheduler.")
    parser.add_argument("nodes", type=Path)
    parser.add_argument("pods", type=Path)
    parser.add_argument("order", type=Path)
    parser.add_argument("--out", type=Path, help=f"a table of {', '.join(COLUMNS)}: one row per arrival")
    given = parser.parse_args(arguments)
    try:
        trace = read(given.nodes, given.pods, given.order)
    except TraceIsWrong as no:
        parser.exit(2, f"{parser.prog}: {no}\n")
    run = play(trace)
    if given.out:
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([COLUMNS, *run.rows])
        given.out.write_text(table.getvalue())
    print(json.dumps(run.summary()))


if __name__ == "__main__":
    main()
