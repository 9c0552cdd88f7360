"""Who is served, who has to go and who waits: the rules of the queue, and what holds whatever happens."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from handlers.cluster import Cluster, Node
from handlers.fit import Alike
from handlers.request import Request
from handlers.room import Need, Room
from handlers.walk import RESERVE_AFTER_MS, Evicted, Placed, Reserved, walk
from tests.handlers.cluster import broken_rules

T4: dict[str, Any] = {"gpus": 1, "gpu_milli": 1000, "gpu_models": ("T4",)}


def home(*nodes: Node) -> Cluster:
    cluster = Cluster(name="default")
    for number, node in enumerate(nodes):
        cluster.books.offer(f"node-{number}", node)
    return cluster


def units(size: int) -> Node:
    """One number for all resources, as in the worked examples of the hypervisor's contract."""
    return Node(size * 100, size * 100)


def asks(cluster: Cluster, name: str, size: int, priority: int = 0, **more: Any) -> list[str]:
    """What becomes of it, in words."""
    sequence = len(cluster.asked) + sum(cluster.asked.values()) + 1
    needs = {"cpu_milli": size * 100, "memory_mib": size * 100, "priority": priority, **more}
    now_ms = cluster.now_ms
    request = Request("usr_ada", name, 1, at_ms=now_ms, since_ms=now_ms, sequence=sequence, **needs)
    cluster.books.ask(request)
    cluster.books.learn(request.need)
    return told(cluster)


def ends(cluster: Cluster, name: str) -> list[str]:
    cluster.books.release(f"{name}/1")
    return told(cluster)


def told(cluster: Cluster) -> list[str]:
    steps = walk(cluster)
    cluster.books.journal.clear()
    assert broken_rules(cluster) == []
    words = {Placed: "runs", Evicted: "goes", Reserved: "reserves"}
    return [f"{step.request.container_id} {words[type(step)]}" for step in steps]


def running(cluster: Cluster) -> set[str]:
    return {request.container_id for request in cluster.requests.values() if request.node_id}


def test_s1_a_more_urgent_request_evicts_what_it_needs() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 60, 1)
    asks(cluster, "b", 40, 2)
    assert asks(cluster, "c", 80, 10) == ["a goes", "b goes", "c runs"]


def test_s2_nobody_is_evicted_when_that_would_not_help() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 50, 5)
    asks(cluster, "b", 50, 1)
    assert asks(cluster, "c", 60, 3) == []
    assert running(cluster) == {"a", "b"}


def test_s3_what_fits_beside_a_waiting_one_runs_meanwhile() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 60, 10)
    assert asks(cluster, "b", 80, 9) == []
    assert asks(cluster, "c", 40, 1) == ["c runs"]


def test_s4_a_release_lets_the_urgent_one_take_its_place_back() -> None:
    """B-06: the former system preempted on arrival only."""
    cluster = home(units(100))
    asks(cluster, "a", 60, 10)
    asks(cluster, "b", 80, 9)
    asks(cluster, "c", 40, 1)
    assert ends(cluster, "a") == ["c goes", "b runs"]


def test_s5_the_lowest_priorities_are_evicted_though_one_higher_would_do() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 30, 1)
    asks(cluster, "b", 30, 2)
    asks(cluster, "c", 40, 3)
    assert asks(cluster, "d", 35, 9) == ["a goes", "b goes", "d runs"]


def test_s6_and_s7_what_waits_or_has_ended_gives_nothing_back() -> None:
    """B-05: in the former system it freed what it never held."""
    cluster = home(units(100))
    asks(cluster, "a", 80)
    asks(cluster, "b", 80)
    assert ends(cluster, "b") == []
    assert ends(cluster, "a") == []
    assert cluster.books.rooms["node-0"].cpu_milli == 10_000
    with pytest.raises(KeyError):
        ends(cluster, "a")


def test_s8_a_cluster_never_touches_another() -> None:
    """B-01, B-02, B-03: the former system had one queue for all clusters."""
    one, other = home(units(50)), home(units(50))
    asks(other, "theirs", 50, 1)
    asks(one, "ours", 50, 1)
    assert asks(one, "urgent", 50, 9) == ["ours goes", "urgent runs"]
    assert running(other) == {"theirs"}


def test_who_fits_nowhere_though_nobody_runs_waits_and_is_not_lost() -> None:
    """B-04: where nobody could be evicted, the former system forgot the newcomer."""
    cluster = home()
    assert asks(cluster, "a", 100) == []
    cluster.books.offer("node-0", units(100))
    assert told(cluster) == ["a runs"]


def test_names_and_images_are_data_whatever_they_contain() -> None:
    """B-09: a `|` in an image broke the former system's queue, and lost the victim it had just evicted."""
    cluster = home(units(100))
    asks(cluster, "a|b", 100, 1)
    assert asks(cluster, "c|d|e", 100, 2) == ["a|b goes", "c|d|e runs"]
    assert ends(cluster, "c|d|e") == ["a|b runs"]


def test_equals_never_evict_each_other_and_are_served_in_turn() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 100, 5)
    assert asks(cluster, "b", 100, 5) == asks(cluster, "c", 100, 5) == []
    assert ends(cluster, "a") == ["b runs"]


def test_who_is_evicted_moves_to_another_node_in_the_same_decision() -> None:
    cluster = home(units(100), units(50))
    asks(cluster, "b", 50, 1)
    asks(cluster, "a", 50, 1)
    assert asks(cluster, "small", 30, 1) == ["small runs"]
    assert asks(cluster, "urgent", 70, 9) == ["a goes", "urgent runs"]
    assert ends(cluster, "b") == ["a runs"]


def test_no_more_are_evicted_than_have_to_be() -> None:
    cluster = home(units(100))
    for name in "abcd":
        asks(cluster, name, 25, 1)
    assert asks(cluster, "urgent", 50, 9) == ["c goes", "d goes", "urgent runs"]


def test_the_least_work_is_lost() -> None:
    cluster = home(units(50), units(50))
    asks(cluster, "old", 50, 1)
    cluster.now_ms = 3_600_000
    asks(cluster, "young", 50, 1)
    assert asks(cluster, "urgent", 50, 9) == ["young goes", "urgent runs"]


def test_more_than_sixteen_are_never_evicted_for_one() -> None:
    cluster = home(units(170))
    for number in range(17):
        asks(cluster, f"c{number}", 10, 1)
    assert asks(cluster, "whale", 170, 9) == []


def test_what_may_not_be_evicted_stays() -> None:
    cluster = home(units(100))
    asks(cluster, "rock", 100, 1, preemptible=False)
    assert asks(cluster, "urgent", 100, 999) == []


def test_after_three_evictions_only_the_most_urgent_may_evict_it_again() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 100, 1)
    for number in range(3):
        assert asks(cluster, f"b{number}", 100, 5)[0] == "a goes"
        ends(cluster, f"b{number}")
    assert asks(cluster, "c", 100, 899) == []
    assert asks(cluster, "d", 100, 900) == ["a goes", "d runs"]


def test_a_gang_runs_as_a_whole_or_not_at_all() -> None:
    cluster = home(units(100), units(100))
    gang: dict[str, Any] = {"gang": "train", "gang_size": 3}
    assert asks(cluster, "t1", 60, **gang) == asks(cluster, "t2", 60, **gang) == []
    assert asks(cluster, "t3", 60, **gang) == []
    cluster.books.offer("node-9", units(100))
    assert told(cluster) == ["t1 runs", "t2 runs", "t3 runs"]


def test_who_evicts_one_of_a_gang_evicts_all_of_it() -> None:
    cluster = home(units(100), units(100))
    asks(cluster, "t1", 100, 1, gang="train", gang_size=2)
    asks(cluster, "t2", 100, 1, gang="train", gang_size=2)
    assert asks(cluster, "urgent", 100, 9) == ["t1 goes", "t2 goes", "urgent runs"]
    assert ends(cluster, "urgent") == ["t1 runs", "t2 runs"]


def test_a_gang_that_can_not_run_whole_evicts_nobody() -> None:
    cluster = home(units(100), units(100))
    asks(cluster, "a", 100, 1)
    asks(cluster, "rock", 100, 1, preemptible=False)
    gang: dict[str, Any] = {"gang": "train", "gang_size": 2}
    assert asks(cluster, "t1", 100, 9, **gang) == asks(cluster, "t2", 100, 9, **gang) == []
    assert running(cluster) == {"a", "rock"}


def test_after_ten_minutes_a_node_is_kept_free_for_the_oldest() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 60)
    asks(cluster, "b", 40)
    asks(cluster, "large", 100)
    cluster.now_ms = RESERVE_AFTER_MS - 1
    assert ends(cluster, "a") == []
    assert asks(cluster, "c", 60) == ["c runs"]
    cluster.now_ms = RESERVE_AFTER_MS
    assert ends(cluster, "b") == ["large reserves"]
    assert asks(cluster, "d", 40) == []
    assert ends(cluster, "c") == ["large runs"]
    assert cluster.reserved == {}


def test_the_ten_minutes_of_who_was_evicted_begin_with_that() -> None:
    cluster = home(units(100))
    asks(cluster, "a", 100, 1)
    cluster.now_ms = RESERVE_AFTER_MS
    assert asks(cluster, "b", 100, 5) == ["a goes", "b runs"]
    cluster.now_ms = 2 * RESERVE_AFTER_MS
    assert asks(cluster, "c", 100) == ["a reserves"]


def test_only_the_models_asked_for_will_do() -> None:
    cluster = home(Node(10_000, 10_000, 2, "P100"), Node(10_000, 10_000, 2, "T4"))
    asks(cluster, "a", 10, **T4)
    assert cluster.requests["a/1"].node_id == "node-1"
    asks(cluster, "b", 10, gpus=2, gpu_milli=1000, gpu_models=("T4", "V100"))
    assert cluster.requests["b/1"].node_id is None


def test_two_halves_share_one_gpu_and_leave_the_other_whole() -> None:
    cluster = home(Node(10_000, 10_000, 2, "T4"))
    asks(cluster, "a", 1, gpus=1, gpu_milli=500)
    asks(cluster, "b", 1, gpus=1, gpu_milli=500)
    assert cluster.requests["a/1"].devices == cluster.requests["b/1"].devices
    assert asks(cluster, "c", 1, gpus=1, gpu_milli=1000) == ["c runs"]


class Days(RuleBasedStateMachine):
    """Any history of a small cluster."""

    @initialize(sizes=st.lists(st.sampled_from([(40, 0), (80, 2), (60, 1)]), min_size=1, max_size=4))
    def begin(self, sizes: list[tuple[int, int]]) -> None:
        self.cluster = home(*(Node(size * 100, size * 100, gpus, "T4") for size, gpus in sizes))
        self.sequence = 0

    @rule(
        size=st.sampled_from([5, 10, 30, 40, 80]),
        memory=st.sampled_from([5, 10, 30, 40, 80]),
        priority=st.sampled_from([0, 1, 5, 900]),
        gpu=st.sampled_from([(0, 0), (0, 0), (1, 300), (1, 1000), (2, 1000)]),
        preemptible=st.sampled_from([True, True, True, False]),
        members=st.sampled_from([1, 1, 1, 2]),
    )
    def ask(
        self, size: int, memory: int, priority: int, gpu: tuple[int, int], preemptible: bool, members: int
    ) -> None:
        gang = f"gang-{self.sequence}" if members > 1 else ""
        for _ in range(members):
            self.sequence += 1
            name, (gpus, gpu_milli) = f"c{self.sequence}", gpu
            request = Request(
                *("usr_ada", name, 1, size * 100, memory * 100, None, gpus, gpu_milli),
                priority=priority,
                preemptible=preemptible,
                gang=gang,
                gang_size=members,
                at_ms=self.cluster.now_ms,
                since_ms=self.cluster.now_ms,
                sequence=self.sequence,
            )
            self.cluster.books.ask(request)
            self.cluster.books.learn(request.need)
            self.decide()

    @rule(which=st.integers(0, 1000), later_ms=st.sampled_from([0, 1000, 300_000]))
    def end(self, which: int, later_ms: int) -> None:
        self.cluster.now_ms += later_ms
        if keys := sorted(self.cluster.requests):
            self.cluster.books.release(keys[which % len(keys)])
            self.decide()

    @rule(which=st.integers(0, 3))
    def close_or_open(self, which: int) -> None:
        node_id = f"node-{which % len(self.cluster.nodes)}"
        node = self.cluster.nodes[node_id]
        self.cluster.books.offer(node_id, msgspec.structs.replace(node, offered=not node.offered))
        self.decide()

    def decide(self) -> None:
        """Tried out, taken back, and done again by books opened anew: to the same end."""
        self.cluster.books.journal.clear()
        before = msgspec.json.encode(self.cluster, order="sorted")
        tried = [repr(step)[:40] for step in walk(self.cluster)]
        self.cluster.books.undo()
        assert msgspec.json.encode(self.cluster, order="sorted") == before
        self.cluster = msgspec.json.decode(before, type=Cluster)
        assert [repr(step)[:40] for step in walk(self.cluster)] == tried
        self.cluster.books.journal.clear()

    @invariant()
    def all_rules_hold(self) -> None:
        assert broken_rules(self.cluster) == []


TestDays = Days.TestCase
TestDays.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def forgets_memory(alike: Alike, memory_mib: int, barred: Collection[str]) -> Room | None:
    return next(iter(alike.rooms.values()))


def takes_the_first_gpus(room: Room, need: Need, left: int | None = None) -> tuple[int, ...]:
    return tuple(range(need.gpus))


def evicts_nobody(*_: object) -> None:
    return None


def tears_gangs(*_: object) -> bool:
    return True


def takes_nothing_back(*_: object) -> None:
    return None


@pytest.mark.parametrize(
    ("target", "mistake"),
    [
        ("handlers.room.Room.pick", takes_the_first_gpus),
        ("handlers.walk.choose", evicts_nobody),
        ("handlers.walk._is_complete", tears_gangs),
        ("handlers.cluster.Books.undo", takes_nothing_back),
    ],
)
def test_a_scheduler_with_a_mistake_does_not_get_away_with_it(
    monkeypatch: pytest.MonkeyPatch, target: str, mistake: object
) -> None:
    monkeypatch.setattr(target, mistake)
    once = settings(
        max_examples=1000, phases=[Phase.generate], derandomize=True, database=None, deadline=None
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Days, settings=once)


def test_a_scheduler_that_forgets_memory_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms are alike by their CPUs and GPUs; memory is asked for when one of them is taken."""
    cluster = home(Node(10_000, 2_000, 2, "T4"), Node(10_000, 9_000, 2, "T4"))
    monkeypatch.setattr("handlers.fit.Alike.first", forgets_memory)
    with pytest.raises(AssertionError, match="promised more than it has"):
        asks(cluster, "a", 1, memory_mib=8_000, **T4)


def test_a_promise_too_many_is_noticed() -> None:
    cluster = home(units(10))
    asks(cluster, "a", 10)
    asks(cluster, "b", 10)
    cluster.books.place("b/1", "node-0", (), 0)
    assert "node-0 has promised more than it has" in broken_rules(cluster)


def test_a_request_that_got_lost_is_noticed() -> None:
    cluster = home(units(10))
    asks(cluster, "a", 10)
    asks(cluster, "b", 10)
    request = cluster.requests["b/1"]
    cluster.books.waiting.leave(request.line, request.sequence, "b/1")
    assert broken_rules(cluster) == ["somebody is in no queue and in no place"]


def test_an_inversion_is_noticed() -> None:
    cluster = home(units(10))
    asks(cluster, "a", 10, 1)
    cluster.books.ask(Request("usr_ada", "b", 1, 100, 100, priority=2))
    assert broken_rules(cluster) == ["b/1 waits for what less urgent work holds on node-0"]


def test_a_torn_gang_is_noticed() -> None:
    cluster = home(units(10))
    cluster.books.ask(Request("usr_ada", "t1", 1, 1000, 1000, gang="g", gang_size=2))
    cluster.books.ask(Request("usr_ada", "t2", 1, 1000, 1000, gang="g", gang_size=2))
    cluster.books.place("t1/1", "node-0", (), 0)
    assert broken_rules(cluster) == ["the gang g is torn"]


def test_what_is_kept_free_for_one_is_free_for_whoever_stands_before_it_in_its_line() -> None:
    """Else neither could have it: the one is not first, the other was barred."""
    cluster = home(units(10), units(10))
    asks(cluster, "first", 10, 5)
    asks(cluster, "stays", 9, 5, preemptible=False)
    asks(cluster, "holder", 10, 5)
    cluster.now_ms = RESERVE_AFTER_MS
    assert told(cluster) == ["holder reserves"]
    assert asks(cluster, "urgent", 10, 9) == ["first goes", "urgent runs"]
    assert ends(cluster, "stays") == ["first runs"]


def test_who_was_put_just_now_makes_room_by_going_elsewhere() -> None:
    """Only within one decision: what runs already is not moved for anybody but the more urgent."""
    cluster = home()
    for name, size in (("first", 40), ("second", 60), ("third", 50)):
        asks(cluster, name, size)
    cluster.books.offer("node-0", units(100))
    cluster.books.offer("node-1", units(50))
    assert told(cluster) == ["second runs", "third runs", "first runs"]
    one_by_one = home(units(100), units(50))
    asks(one_by_one, "first", 40)
    asks(one_by_one, "second", 60)
    assert asks(one_by_one, "third", 50) == []
