"""Who gets which place and who waits for what, as a list of examples."""

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.messages.names import ReserveName, name_id
from core.messages.scheduling import (
    ClusterCreated,
    ClusterExists,
    ClusterId,
    ClusterIsUnknown,
    CreateCluster,
    NodeOffered,
    NodeWithdrawn,
    OfferNode,
    PlacementQueued,
    PlacementReleased,
    ReleasePlacement,
    RequestPlacement,
    RunPlaced,
    SchedulingCommand,
    SchedulingEvent,
    WithdrawNode,
)
from handlers import scheduling
from tests.given import Scenario

given = Scenario(scheduling.decider)

HOME = ClusterId("default")

create = CreateCluster(cluster_id=HOME, name="default", at_ms=1)
created = ClusterCreated(cluster_id=HOME, name="default", at_ms=1)


def offer(node_id: str, memory_mib: int, cpu_milli: int = 2000) -> OfferNode:
    return OfferNode(cluster_id=HOME, node_id=node_id, cpu_milli=cpu_milli, memory_mib=memory_mib)


def offered(node_id: str, memory_mib: int, cpu_milli: int = 2000) -> NodeOffered:
    return NodeOffered(cluster_id=HOME, node_id=node_id, cpu_milli=cpu_milli, memory_mib=memory_mib)


def withdraw(node_id: str) -> WithdrawNode:
    return WithdrawNode(cluster_id=HOME, node_id=node_id)


def withdrawn(node_id: str) -> NodeWithdrawn:
    return NodeWithdrawn(cluster_id=HOME, node_id=node_id)


def request(container_id: str, memory_mib: int, cpu_milli: int = 500, run: int = 1) -> RequestPlacement:
    return RequestPlacement(
        cluster_id=HOME,
        tenant="usr_ada",
        container_id=container_id,
        run=run,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        at_ms=1,
    )


def queued(
    container_id: str, memory_mib: int, cpu_milli: int = 500, run: int = 1, reason: str = ""
) -> PlacementQueued:
    return PlacementQueued(
        cluster_id=HOME,
        tenant="usr_ada",
        container_id=container_id,
        run=run,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        reason=reason,
        at_ms=1,
    )


def placed(container_id: str, node_id: str, run: int = 1) -> RunPlaced:
    return RunPlaced(cluster_id=HOME, tenant="usr_ada", container_id=container_id, run=run, node_id=node_id)


def release(container_id: str, run: int = 1) -> ReleasePlacement:
    return ReleasePlacement(cluster_id=HOME, container_id=container_id, run=run)


def released(container_id: str, run: int = 1) -> PlacementReleased:
    return PlacementReleased(cluster_id=HOME, container_id=container_id, run=run)


NODE_A = offered("node-a", 1024)
WEB_ON_A = (queued("web", 768), placed("web", "node-a"))


def test_a_cluster_is_created_once() -> None:
    given().when(create).then(created)
    given(created).when(replace(create, at_ms=9)).then_nothing()
    given(created).when(replace(create, name="other")).then_rejected(ClusterExists)


def test_a_cluster_reserves_its_name_alongside() -> None:
    given().when(create).then_alongside(ReserveName(name_id=name_id("cluster", "default"), holder=HOME))
    given(created).when(create).then_alongside()
    given(created).when(offer("node-a", 1024)).then_alongside()


@pytest.mark.parametrize("command", [offer("n", 64), withdraw("n"), request("web", 64), release("web")])
def test_an_unknown_cluster_takes_no_orders(command: SchedulingCommand) -> None:
    given().when(command).then_rejected(ClusterIsUnknown)


def test_a_node_is_offered_and_withdrawn_once() -> None:
    given(created).when(offer("node-a", 1024)).then(NODE_A)
    given(created, NODE_A).when(offer("node-a", 1024)).then_nothing()
    given(created, NODE_A).when(withdraw("node-a")).then(withdrawn("node-a"))
    given(created, NODE_A, withdrawn("node-a")).when(withdraw("node-a")).then_nothing()
    given(created).when(withdraw("node-a")).then_nothing()


def test_a_withdrawn_node_can_be_offered_again() -> None:
    given(created, NODE_A, withdrawn("node-a")).when(offer("node-a", 1024)).then(NODE_A)


def test_a_second_offer_replaces_the_first() -> None:
    given(created, NODE_A).when(offer("node-a", 2048)).then(offered("node-a", 2048))


def test_what_fits_is_placed_at_once() -> None:
    given(created, NODE_A).when(request("web", 768)).then(*WEB_ON_A)


def test_asking_twice_for_a_place_changes_nothing() -> None:
    given(created, NODE_A, *WEB_ON_A).when(request("web", 768)).then_nothing()
    given(created, queued("web", 768)).when(request("web", 768)).then_nothing()


def test_the_next_run_of_a_container_has_a_place_of_its_own() -> None:
    given(created, offered("node-a", 2048), *WEB_ON_A).when(request("web", 768, run=2)).then(
        queued("web", 768, run=2), placed("web", "node-a", run=2)
    )


def test_a_node_is_filled_before_the_next_is_begun() -> None:
    nodes = (offered("node-a", 4096), offered("node-b", 1024), offered("node-c", 2048))
    given(created, *nodes).when(request("web", 512)).then(queued("web", 512), placed("web", "node-b"))
    given(created, *nodes).when(request("web", 1500)).then(queued("web", 1500), placed("web", "node-c"))


def test_between_equals_the_one_with_less_cpu_and_then_the_first_by_name_is_chosen() -> None:
    less_cpu = (offered("node-a", 1024, 2000), offered("node-b", 1024, 1000))
    given(created, *less_cpu).when(request("web", 512)).then(queued("web", 512), placed("web", "node-b"))
    equals = (offered("node-b", 1024), offered("node-a", 1024))
    given(created, *equals).when(request("web", 512)).then(queued("web", 512), placed("web", "node-a"))


def test_a_request_that_fits_nowhere_waits_and_says_what_is_short() -> None:
    given(created, NODE_A, *WEB_ON_A).when(request("job", 512)).then(
        queued(
            "job",
            512,
            reason="needs 512 MiB and 500 mCPU; the freest node node-a has 256 MiB and 1500 mCPU left",
        )
    )


def test_cpu_is_never_promised_twice_either() -> None:
    given(created, NODE_A, *WEB_ON_A).when(request("job", 128, 1800)).then(
        queued(
            "job",
            128,
            1800,
            reason="needs 128 MiB and 1800 mCPU; the freest node node-a has 256 MiB and 1500 mCPU left",
        )
    )


def test_without_nodes_a_request_waits() -> None:
    nobody = queued("web", 768, reason="no node takes work")
    given(created).when(request("web", 768)).then(nobody)
    given(created, NODE_A, withdrawn("node-a")).when(request("web", 768)).then(nobody)


def test_a_request_larger_than_any_node_says_so() -> None:
    nodes = (NODE_A, offered("node-b", 2048, 1000))
    given(created, *nodes).when(request("whale", 90000)).then(
        queued("whale", 90000, reason="larger than any node: needs 90000 MiB, the largest has 2048")
    )
    given(created, *nodes).when(request("whale", 64, 64000)).then(
        queued("whale", 64, 64000, reason="larger than any node: needs 64000 mCPU, the largest has 2000")
    )
    given(created, *nodes).when(request("whale", 2000, 2000)).then(
        queued("whale", 2000, 2000, reason="larger than any node: none has 2000 MiB and 2000 mCPU at once")
    )


def test_a_small_request_does_not_overtake_an_older_one() -> None:
    waiting = (created, NODE_A, *WEB_ON_A, queued("job", 512))
    given(*waiting).when(request("tiny", 6)).then(queued("tiny", 6, reason="waits behind 1 other"))
    given(*waiting, queued("tiny", 6)).when(request("next", 6)).then(
        queued("next", 6, reason="waits behind 2 others")
    )


def test_a_request_larger_than_any_node_holds_nobody_up() -> None:
    given(created, NODE_A, queued("whale", 90000)).when(request("web", 768)).then(*WEB_ON_A)


def test_a_large_request_is_first_again_once_a_node_could_hold_it() -> None:
    large = (offered("node-b", 1000), offered("node-c", 100_000))
    past = (created, *large, queued("web", 512), placed("web", "node-b"), withdrawn("node-c"))
    waiting = (*past, queued("whale", 90000), queued("job", 600))
    given(*waiting).when(offer("node-c", 90500)).then(offered("node-c", 90500), placed("whale", "node-c"))


def test_a_released_place_goes_to_those_who_waited_longest() -> None:
    waiting = (queued("job", 512), queued("tiny", 256), queued("late", 512))
    given(created, NODE_A, *WEB_ON_A, *waiting).when(release("web")).then(
        released("web"), placed("job", "node-a"), placed("tiny", "node-a")
    )


def test_who_no_longer_waits_lets_the_others_through() -> None:
    given(created, NODE_A, *WEB_ON_A, queued("job", 512), queued("tiny", 256)).when(release("job")).then(
        released("job"), placed("tiny", "node-a")
    )


def test_a_place_is_released_once() -> None:
    given(created, NODE_A, *WEB_ON_A, released("web")).when(release("web")).then_nothing()
    given(created).when(release("web")).then_nothing()


def test_a_released_place_can_be_promised_again() -> None:
    given(created, NODE_A, *WEB_ON_A, released("web")).when(request("job", 1024, 2000)).then(
        queued("job", 1024, 2000), placed("job", "node-a")
    )


def test_a_new_node_takes_those_who_wait() -> None:
    given(created, queued("web", 768), queued("job", 128)).when(offer("node-a", 1024)).then(
        NODE_A, placed("web", "node-a"), placed("job", "node-a")
    )


def test_a_withdrawn_node_gets_nothing_new_and_keeps_what_it_holds() -> None:
    past = (created, NODE_A, *WEB_ON_A, withdrawn("node-a"), offered("node-b", 600))
    given(*past).when(request("job", 128)).then(queued("job", 128), placed("job", "node-b"))
    given(*past).when(release("web")).then(released("web"))
    given(*past).when(offer("node-a", 1024)).then(NODE_A)
    short = "needs 700 MiB and 500 mCPU; the freest node node-b has 600 MiB and 2000 mCPU left"
    given(*past, NODE_A).when(request("job", 700)).then(queued("job", 700, reason=short))


def test_withdrawing_the_one_node_the_first_waits_for_lets_the_others_through() -> None:
    past = (created, NODE_A, *WEB_ON_A, offered("node-b", 256), queued("job", 512), queued("tiny", 64))
    given(*past).when(withdraw("node-a")).then(withdrawn("node-a"), placed("tiny", "node-b"))


def test_a_shrunken_node_gets_nothing_until_it_fits_again() -> None:
    shrunken = (created, NODE_A, *WEB_ON_A, offered("node-a", 512))
    short = "needs 64 MiB and 500 mCPU; the freest node node-a has 0 MiB and 1500 mCPU left"
    given(*shrunken).when(request("job", 64)).then(queued("job", 64, reason=short))
    given(*shrunken, queued("job", 64)).when(release("web")).then(released("web"), placed("job", "node-a"))


node_ids = st.sampled_from(["node-a", "node-a", "node-b"])
container_ids = st.sampled_from([f"c{n}" for n in range(4)])
memories, cpus = st.sampled_from([64, 128, 300, 512, 900]), st.sampled_from([100, 500, 900])
wishes: st.SearchStrategy[SchedulingCommand] = st.one_of(
    st.builds(offer, node_ids, st.sampled_from([256, 512, 1024]), st.sampled_from([500, 1000, 2000])),
    st.builds(withdraw, node_ids),
    st.builds(request, container_ids, memories, cpus, st.integers(1, 2)),
    st.builds(request, container_ids, memories, cpus, st.integers(1, 2)),
    st.builds(release, container_ids, st.integers(1, 2)),
)


class Books:
    """The same cluster as told by its events alone: who was offered, who waits, who holds what."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeOffered] = {}
        self.waiting: list[PlacementQueued] = []
        self.held: list[tuple[PlacementQueued, str]] = []

    def room(self, node: NodeOffered) -> tuple[int, int]:
        held = [asked for asked, node_id in self.held if node_id == node.node_id]
        return (
            node.memory_mib - sum(asked.memory_mib for asked in held),
            node.cpu_milli - sum(asked.cpu_milli for asked in held),
        )

    def fits(self, asked: PlacementQueued) -> bool:
        rooms = map(self.room, self.nodes.values())
        return any(asked.memory_mib <= mib and asked.cpu_milli <= cpu for mib, cpu in rooms)

    def could_ever_fit(self, asked: PlacementQueued) -> bool:
        nodes = self.nodes.values()
        return any(asked.memory_mib <= n.memory_mib and asked.cpu_milli <= n.cpu_milli for n in nodes)

    def enter(self, event: SchedulingEvent) -> None:
        match event:
            case ClusterCreated():
                pass
            case NodeOffered():
                self.nodes[event.node_id] = event
            case NodeWithdrawn():
                del self.nodes[event.node_id]
            case PlacementQueued():
                self.waiting.append(event)
            case RunPlaced():
                (asked,) = (w for w in self.waiting if (w.container_id, w.run) == key(event))
                earlier = self.waiting[: self.waiting.index(asked)]
                assert not any(map(self.could_ever_fit, earlier)), "overtook somebody"
                self.waiting.remove(asked)
                self.held.append((asked, event.node_id))
                assert min(self.room(self.nodes[event.node_id])) >= 0, "oversubscribed"
            case PlacementReleased():
                self.waiting = [w for w in self.waiting if key(w) != key(event)]
                self.held = [(asked, node) for asked, node in self.held if key(asked) != key(event)]


def key(event: PlacementQueued | RunPlaced | PlacementReleased) -> tuple[str, int]:
    return event.container_id, event.run


@settings(deadline=None)
@given_any(st.lists(wishes, min_size=10, max_size=50))
def test_whatever_is_asked_nothing_is_oversubscribed_overtaken_lost_or_left_idle(
    commands: list[SchedulingCommand],
) -> None:
    books, cluster = Books(), scheduling.decider.fold([created])
    asked: set[tuple[str, int]] = set()
    for command in commands:
        decided = scheduling.decider.decide(command, cluster)
        for event in decided:
            books.enter(event)
            cluster = scheduling.decider.evolve(cluster, event)
        cluster = msgspec.json.decode(msgspec.json.encode(cluster, order="sorted"), type=scheduling.Cluster)

        match command:
            case RequestPlacement():
                asked.add((command.container_id, command.run))
            case ReleasePlacement():
                asked.discard((command.container_id, command.run))
            case _:
                pass
        assert sorted([*map(key, books.waiting), *(key(a) for a, _ in books.held)]) == sorted(asked), "lost"
        first = next(filter(books.could_ever_fit, books.waiting), None)
        assert first is None or not books.fits(first), "left idle"
        for event in decided:
            if isinstance(event, PlacementQueued):
                assert (event.reason == "") == (event not in books.waiting), "the reason is wrong"
