"""What may run and how often, as a list of examples."""

import pytest
from msgspec.structs import replace

from core.messages.catalog import (
    Archive,
    BoundsAreCrossed,
    BuildFailed,
    BuildIsTaken,
    BuildStarted,
    CatalogCommand,
    ClaimBuild,
    DeleteImage,
    ImageBuilt,
    ImageDeleted,
    ImageExists,
    ImageId,
    ImageIsFull,
    ImageIsNotReady,
    ImageIsUnknown,
    ImageRegistered,
    Instance,
    InstanceRetired,
    InstancesLaunched,
    LaunchInstances,
    Reference,
    RegisterImage,
    ReportBuildFailed,
    ReportBuilt,
    Resources,
    RetireInstance,
)
from core.messages.names import ReleaseName, ReserveName, name_id
from handlers import catalog
from tests.given import Scenario

given = Scenario(catalog.decider)

WEB = ImageId("img_web")
HOSTNAME = name_id("hostname", "web.example")
ONE, TWO, THREE = (Instance(f"ctr_{n}", f"web-{n}") for n in (1, 2, 3))

register = RegisterImage(
    image_id=WEB,
    name="web",
    tag="1",
    source=Reference("web:1"),
    owner="usr_ada",
    at_ms=1,
    hostname="web.example",
    max_instances=2,
)
registered = ImageRegistered(
    image_id=WEB,
    name="web",
    tag="1",
    source=Reference("web:1"),
    owner="usr_ada",
    at_ms=1,
    hostname="web.example",
    resources=Resources(),
    min_instances=1,
    max_instances=2,
    port=8080,
)
uploaded = replace(registered, source=Archive("upload-1", "a" * 64, 1000))

claim = ClaimBuild(image_id=WEB, node_id="node-a", at_ms=2)
claimed = BuildStarted(image_id=WEB, node_id="node-a", at_ms=2)
report_built = ReportBuilt(image_id=WEB, node_id="node-a", ref="built:1", bytes=5000, at_ms=3)
built = ImageBuilt(image_id=WEB, node_id="node-a", ref="built:1", bytes=5000, at_ms=3)
report_failed = ReportBuildFailed(image_id=WEB, node_id="node-a", reason="no such file", at_ms=3)
failed = BuildFailed(image_id=WEB, node_id="node-a", reason="no such file", at_ms=3)

launch_one = LaunchInstances(image_id=WEB, instances=(ONE,), by="usr_ada", at_ms=4)
launch_all = replace(launch_one, instances=(ONE, TWO, THREE))
launched_one = InstancesLaunched(
    image_id=WEB,
    instances=(ONE,),
    ref="web:1",
    hostname="web.example",
    resources=Resources(),
    port=8080,
    by="usr_ada",
    at_ms=4,
)
launched_two = replace(launched_one, instances=(ONE, TWO))
retire_one = RetireInstance(image_id=WEB, container_id="ctr_1")
retired_one = InstanceRetired(image_id=WEB, container_id="ctr_1")

delete, deleted = (
    DeleteImage(image_id=WEB, at_ms=9),
    ImageDeleted(image_id=WEB, hostname="web.example", at_ms=9),
)


def test_an_image_is_registered_once() -> None:
    given().when(register).then(registered)
    given(registered).when(replace(register, at_ms=7)).then_nothing()
    given(registered).when(replace(register, tag="2")).then_rejected(ImageExists)


def test_at_least_is_not_more_than_at_most() -> None:
    crossed = replace(register, min_instances=3)
    given().when(crossed).then_rejected(BoundsAreCrossed, "^min_instances:")
    given().when(replace(register, min_instances=2)).then(replace(registered, min_instances=2))


def test_an_image_reserves_its_hostname_alongside() -> None:
    given().when(register).then_alongside(ReserveName(name_id=HOSTNAME, holder=WEB))
    given().when(replace(register, hostname=None)).then_alongside()
    given(registered).when(register).then_alongside()


def test_a_deleted_image_releases_its_hostname_alongside() -> None:
    given(registered).when(delete).then_alongside(ReleaseName(name_id=HOSTNAME, holder=WEB))
    given(replace(registered, hostname=None)).when(delete).then_alongside()
    given(registered, deleted).when(delete).then_alongside()
    given().when(delete).then_alongside()


def test_the_first_node_to_ask_builds() -> None:
    given(uploaded).when(claim).then(claimed)
    given(uploaded, claimed).when(claim).then_nothing()
    given(uploaded, claimed).when(replace(claim, node_id="node-b")).then_rejected(BuildIsTaken)


def test_what_the_engine_has_already_is_not_built() -> None:
    given(registered).when(claim).then_rejected(BuildIsTaken)


def test_a_build_that_has_ended_is_not_begun_again() -> None:
    given(uploaded, claimed, built).when(claim).then_rejected(BuildIsTaken)
    given(uploaded, claimed, failed).when(claim).then_rejected(BuildIsTaken)
    given(uploaded, claimed, failed).when(replace(claim, node_id="node-b")).then_rejected(BuildIsTaken)


def test_the_builder_tells_how_it_went_once() -> None:
    given(uploaded, claimed).when(report_built).then(built)
    given(uploaded, claimed, built).when(replace(report_built, at_ms=8)).then_nothing()
    given(uploaded, claimed).when(report_failed).then(failed)
    given(uploaded, claimed, failed).when(replace(report_failed, at_ms=8)).then_nothing()


def test_how_it_went_is_not_told_otherwise_later() -> None:
    given(uploaded, claimed, built).when(report_failed).then_rejected(BuildIsTaken)
    given(uploaded, claimed, built).when(replace(report_built, ref="built:2")).then_rejected(BuildIsTaken)
    given(uploaded, claimed, failed).when(report_built).then_rejected(BuildIsTaken)
    given(uploaded, claimed, failed).when(replace(report_failed, reason="x")).then_rejected(BuildIsTaken)


def test_nobody_else_tells_how_it_went() -> None:
    for report in (replace(report_built, node_id="node-b"), replace(report_failed, node_id="node-b")):
        given(uploaded).when(report).then_rejected(BuildIsTaken)
        given(uploaded, claimed).when(report).then_rejected(BuildIsTaken)
        given(registered).when(report).then_rejected(BuildIsTaken)


def test_a_reference_is_launched_as_it_is() -> None:
    given(registered).when(launch_one).then(launched_one)


def test_an_upload_is_launched_as_what_it_was_built_to() -> None:
    given(uploaded, claimed, built).when(launch_one).then(replace(launched_one, ref="built:1"))


def test_what_is_not_built_is_not_launched() -> None:
    given(uploaded).when(launch_one).then_rejected(ImageIsNotReady)
    given(uploaded, claimed).when(launch_one).then_rejected(ImageIsNotReady)
    given(uploaded, claimed, failed).when(launch_one).then_rejected(ImageIsNotReady)


def test_as_many_are_launched_as_there_is_room_for() -> None:
    given(registered).when(launch_all).then(launched_two)
    given(registered, launched_one).when(replace(launch_all, instances=(TWO, THREE))).then(
        replace(launched_one, instances=(TWO,))
    )


def test_a_full_image_launches_no_more() -> None:
    given(registered, launched_two).when(replace(launch_one, instances=(THREE,))).then_rejected(ImageIsFull)


def test_launching_what_is_launched_changes_nothing() -> None:
    given(registered, launched_one).when(launch_one).then_nothing()
    given(registered, launched_two).when(launch_all).then_nothing()


def test_one_instance_offered_twice_is_launched_once() -> None:
    given(registered).when(replace(launch_one, instances=(ONE, ONE))).then(launched_one)


def test_a_retired_instance_makes_room() -> None:
    launch_three = replace(launch_one, instances=(THREE,))
    given(registered, launched_two).when(retire_one).then(retired_one)
    given(registered, launched_two, retired_one).when(retire_one).then_nothing()
    given(registered, launched_two, retired_one).when(launch_three).then(
        replace(launched_one, instances=(THREE,))
    )


def test_an_image_is_deleted_once() -> None:
    given(registered).when(delete).then(deleted)
    given(registered, deleted).when(delete).then_nothing()


def test_instances_outlive_their_image_and_are_counted_out() -> None:
    given(registered, launched_one, deleted).when(retire_one).then(retired_one)
    given(registered, deleted).when(retire_one).then_nothing()


def test_the_id_of_a_deleted_image_stays_taken() -> None:
    given(registered, deleted).when(register).then_rejected(ImageExists)


@pytest.mark.parametrize("command", [claim, report_built, report_failed, launch_one])
def test_nothing_can_be_asked_of_a_deleted_image(command: CatalogCommand) -> None:
    given(registered, deleted).when(command).then_rejected(ImageIsUnknown)


@pytest.mark.parametrize("command", [claim, report_built, report_failed, launch_one, retire_one, delete])
def test_nothing_can_be_asked_of_an_unknown_image(command: CatalogCommand) -> None:
    given().when(command).then_rejected(ImageIsUnknown)
