"""Who holds a name, as a list of examples."""

from core.messages.names import NameIsTaken, NameReleased, NameReserved, ReleaseName, ReserveName, name_id
from handlers import names
from tests.given import Scenario

given = Scenario(names.decider)

NAME = name_id("hostname", "web.example")

adas = NameReserved(name_id=NAME, holder="ada")
given_up = NameReleased(name_id=NAME, holder="ada")
reserve_for_ada = ReserveName(name_id=NAME, holder="ada")
reserve_for_bob = ReserveName(name_id=NAME, holder="bob")


def test_a_free_name_goes_to_whoever_asks_first() -> None:
    given().when(reserve_for_ada).then(adas)
    given(adas).when(reserve_for_bob).then_rejected(NameIsTaken)


def test_reserving_what_one_holds_already_changes_nothing() -> None:
    given(adas).when(reserve_for_ada).then_nothing()


def test_only_its_holder_can_give_a_name_back() -> None:
    given(adas).when(ReleaseName(name_id=NAME, holder="bob")).then_nothing()
    given(adas).when(ReleaseName(name_id=NAME, holder="ada")).then(given_up)


def test_a_name_nobody_holds_need_not_be_given_back() -> None:
    given().when(ReleaseName(name_id=NAME, holder="ada")).then_nothing()
    given(adas, given_up).when(ReleaseName(name_id=NAME, holder="ada")).then_nothing()


def test_a_released_name_can_be_reserved_again_by_anybody() -> None:
    given(adas, given_up).when(reserve_for_bob).then(NameReserved(name_id=NAME, holder="bob"))
    given(adas, given_up).when(reserve_for_ada).then(adas)
