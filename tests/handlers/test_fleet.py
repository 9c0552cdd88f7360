"""What is known of a machine, as a list of examples."""

from msgspec.structs import replace

from core.messages.fleet import (
    CordonNode,
    NodeCordoned,
    NodeId,
    NodeIsUnknown,
    NodeRegistered,
    NodeUncordoned,
    RegisterNode,
    UncordonNode,
)
from handlers import fleet
from tests.given import Scenario

given = Scenario(fleet.decider)

NODE = NodeId("node-a")

register = RegisterNode(
    node_id=NODE,
    cluster_id="default",
    address="10.0.0.7",
    engine="docker 28",
    cpu_milli=8000,
    memory_mib=16000,
    at_ms=1,
)
registered = NodeRegistered(
    node_id=NODE,
    cluster_id="default",
    address="10.0.0.7",
    engine="docker 28",
    cpu_milli=8000,
    memory_mib=16000,
    at_ms=1,
)
cordon, cordoned = CordonNode(node_id=NODE, at_ms=2), NodeCordoned(node_id=NODE, at_ms=2)
uncordon, uncordoned = UncordonNode(node_id=NODE, at_ms=3), NodeUncordoned(node_id=NODE, at_ms=3)


def test_a_node_registers_once() -> None:
    given().when(register).then(registered)
    given(registered).when(register).then_nothing()


def test_an_agent_that_starts_again_says_nothing_new() -> None:
    given(registered).when(replace(register, at_ms=99)).then_nothing()


def test_what_changed_about_a_node_is_told() -> None:
    grown = replace(registered, memory_mib=32000, at_ms=99)
    given(registered).when(replace(register, memory_mib=32000, at_ms=99)).then(grown)
    given(registered, grown).when(replace(register, at_ms=100)).then(replace(registered, at_ms=100))


def test_an_unknown_node_takes_no_orders() -> None:
    given().when(cordon).then_rejected(NodeIsUnknown)
    given().when(uncordon).then_rejected(NodeIsUnknown)


def test_a_node_is_cordoned_and_uncordoned() -> None:
    given(registered).when(cordon).then(cordoned)
    given(registered, cordoned).when(cordon).then_nothing()
    given(registered, cordoned).when(uncordon).then(uncordoned)
    given(registered).when(uncordon).then_nothing()
    given(registered, cordoned, uncordoned).when(cordon).then(cordoned)


def test_a_cordon_survives_registration() -> None:
    moved = replace(registered, address="10.0.0.8")
    given(registered, cordoned, moved).when(cordon).then_nothing()
    given(registered, cordoned, moved).when(uncordon).then(uncordoned)
