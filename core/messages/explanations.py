"""What a cluster can be asked about its decisions, and what it answers.

Nothing of this is written anywhere: it is found out by the same functions that
decide, from the same state.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from core.message import Millis, Question, Token

QUEUE_MAX = 2000
"""Turns of a queue told at once: what is told has to fit into a message."""


class WhyWaiting(Question):
    """What keeps these containers from running; those that do not wait are left out."""

    cluster_id: Token
    container_ids: tuple[Token, ...]
    at_ms: Millis


class WhyThere(Question):
    """Which nodes were best for these runs when they were placed; asked of the state before that commit.

    Runs as `ctr_5/2`; those that were not placed in it are left out.
    """

    cluster_id: Token
    runs: Annotated[tuple[str, ...], Meta(max_length=10_000)]


class ShowQueue(Question):
    """Who waits, in the order in which they are served, and when their turn will come.

    Of these `tenants` only, if given; the others still count for positions and times. The
    first `limit` of those whose position is `after` this.
    """

    cluster_id: Token
    at_ms: Millis
    tenants: tuple[Token, ...] | None = None
    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=QUEUE_MAX)] = QUEUE_MAX


class Lacks(Struct, frozen=True):
    """How many nodes lack what, each counted under the first thing: GPU model, GPUs, memory, CPU.

    `closed` are those that take no work, `kept` those that are kept free for somebody else.
    """

    closed: int = 0
    gpu_model: int = 0
    gpus: int = 0
    memory: int = 0
    cpu: int = 0
    kept: int = 0


class Size(Struct, frozen=True):
    """`gpus` are those of which enough is left for this request."""

    cpu_milli: int
    memory_mib: int
    gpus: int


class Waiting(Struct, frozen=True):
    """Why one run waits. `position` is its place in the queue, 1 is next.

    `needs` is what it asks for, `free` what all open nodes have left together, `freest`
    the most that any single one has of each. `quota` names what the tenant may not have
    more of, `gang` says how many of a gang have a place to go to, `reserved` is the node
    that is kept free for it. `helps` are sentences: whatever of them is done, it runs.
    """

    container_id: str
    run: int
    deployment_id: str
    tenant: str
    priority: int
    position: int
    reason: str
    lacks: Lacks
    needs: Size
    free: Size
    freest: Size
    quota: str
    gang: str
    reserved: str
    since_ms: int
    evictions: int
    helps: tuple[str, ...]


class Candidate(Struct, frozen=True):
    """A node that would do; the highest `score` (0 to 99, 50 changes nothing) is best."""

    node_id: str
    score: int


class There(Struct, frozen=True):
    """Why a run is where it is. `candidates` are the best three as they were then, the chosen one first.

    `evicted` had to go for it, at a `cost` as in `RunEvicted`; `runner_up` is the next best
    node at which somebody would have had to go, and `runner_up_cost` what that would have cost.
    """

    container_id: str
    run: int
    node_id: str
    devices: tuple[int, ...]
    policy: str
    candidates: tuple[Candidate, ...]
    evicted: tuple[str, ...]
    cost: tuple[int, ...]
    runner_up: str
    runner_up_cost: tuple[int, ...]


class Turn(Struct, frozen=True):
    """One who waits. `eta_ms` is when its turn comes if all run as long as they say; None: nobody knows."""

    position: int
    container_id: str
    run: int
    deployment_id: str
    tenant: str
    priority: int
    reason: str
    since_ms: int
    eta_ms: int | None


SchedulingQuestion = WhyWaiting | WhyThere | ShowQueue
