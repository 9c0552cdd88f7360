"""`stratus deployments`, `why`, `queue`, `clusters`, `nodes`: on a real broker and real handlers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest
from click.testing import CliRunner

from core.messages.catalog import Reference, RegisterImage, Resources
from core.messages.identity import CreateOrganization, RegisterUser
from gateway.cli import main
from gateway.cli.times import duration_ms, moment, span
from tests.broker import Broker
from tests.cli.conftest import Stratus
from tests.cli.house import House, house

ADA, BOB, CLUB = "usr_ada", "usr_bob", "org_club"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One platform for all tests: each has clusters of its own in it."""
    with house(tmp_path_factory.mktemp("house")) as one:
        for user in (ADA, BOB):
            username = f"username:{user}"
            one.send(RegisterUser(user_id=user, sealed="x", username=username, email=None, at_ms=1))
        one.send(
            CreateOrganization(
                organization_id=CLUB, name="Club", invite_hash="0" * 64, created_by=BOB, at_ms=1
            )
        )
        yield one


@pytest.fixture
def small(here: House) -> str:
    """A cluster of two CPUs."""
    return here.cluster("--cpu", "2", "--memory", "4g")


def lines(here: House, *words: str) -> dict[str, dict[str, Any]]:
    """What `stratus deployments` lists, by id."""
    return {one["deployment"]["deployment_id"]: one for one in here.told("deployments", *words)}


def of(found: list[dict[str, Any]], **fields: str) -> dict[str, Any]:
    """The one of the list that has these."""
    (one,) = (one for one in found if fields.items() <= one.items())
    return one


def cells(output: str, title: str) -> list[list[str]]:
    """The rows of the table with this title, as words."""
    rows = [row.rstrip() for row in output.splitlines()]
    after = rows[rows.index(title) + 2 :]
    return [row.split() for row in takewhile(lambda row: "  " in row, after)]


def test_what_has_been_submitted_is_listed(here: House, small: str) -> None:
    id = here.submit("web", small, "--replicas", "2", "--cpu", "500m", "--memory", "1g", "--priority", "600")
    said = here.said("deployments")
    assert [id, "web", small, ADA, "600", "2", "of", "2", "running"] in [
        row.split() for row in said.splitlines()
    ]
    told = lines(here)[id]
    assert (told["status"], told["placed"]) == ("running", 2)
    assert told["deployment"]["share"]["memory_mib"] == 1024


def test_a_job_is_not_run_again_when_it_has_done_its_work(here: House, small: str) -> None:
    job, service = here.submit("job", small, "--job"), here.submit("service", small)
    told = lines(here)
    assert [told[id]["deployment"]["restart"] for id in (job, service)] == ["on_failure", "always"]


def test_submitting_says_whose_it_is_and_where_it_went(here: House, small: str) -> None:
    said = here.said("deployments", "submit", "web", "--ref", "web:1", "--cluster", small)
    assert cells(said, "Placed")[0][2] == "totals"
    assert f"web, for {ADA}." in said
    assert "It has a place." in said


def test_what_does_not_fit_is_said_to_wait(here: House, small: str) -> None:
    said = here.said(f"deployments submit web --ref web:1 --cluster {small} --replicas 3 --cpu 1")
    assert "2 of 3 replicas have a place, 1 waits: `stratus why dep_" in said


def test_it_is_for_whom_it_is_told(here: House, small: str) -> None:
    id = here.submit("web", small, "--tenant", CLUB)
    told = lines(here)[id]["deployment"]
    assert (told["tenant"], told["owner"]) == (CLUB, BOB)


def test_every_option_gets_where_it_belongs(here: House) -> None:
    cluster, _ = here.machines(1)
    words = (
        "--gpu-share 0.25 --gpu-model T4 --gpu-model A10 --gang --not-preemptible --duration 10m --port 9000"
    )
    id = here.submit("odd", cluster, words)
    told = lines(here)[id]["deployment"]
    assert told["share"]["gpus"] == 1
    assert told["share"]["gpu_milli"] == 250
    assert told["share"]["gpu_models"] == ["T4", "A10"]
    assert (told["gang"], told["preemptible"], told["duration_ms"], told["port"]) == (
        True,
        False,
        600_000,
        9000,
    )


def test_an_image_says_what_it_takes_and_whose_it_is(here: House, small: str) -> None:
    image_id = here.name("img")
    here.send(
        RegisterImage(
            image_id=image_id,
            name="app",
            tag="1",
            source=Reference("app:1"),
            owner=BOB,
            at_ms=1,
            resources=Resources(cpu_milli=250, memory_mib=64),
            port=9000,
        ),
        BOB,
    )
    said = here.said(f"deployments submit app --image {image_id} --cluster {small} --memory 128m")
    assert f"for {BOB}." in said
    (told,) = (one["deployment"] for one in lines(here).values() if one["deployment"]["image_id"] == image_id)
    assert (told["share"]["cpu_milli"], told["share"]["memory_mib"], told["port"]) == (250, 128, 9000)


def test_a_plan_shows_who_would_go_for_whom_and_does_nothing(here: House, small: str) -> None:
    batch = here.submit(
        "batch", small, "--replicas", "2", "--cpu", "1", "--priority", "100", "--duration", "10m"
    )
    commits = here.commits(small)
    said = here.said(f"deployments submit urgent --ref u --cluster {small} --cpu 1 --priority 700 --plan")
    assert f"To submit urgent, for {ADA}:" in said
    (placed,), (evicted,) = cells(said, "Would be placed"), cells(said, "Would lose their places")
    assert evicted == [f"{batch}-2", "1", "totals", "preempted", f"{placed[0]}/1", "waits"]
    (waits,) = cells(said, "The queue after it")
    assert waits[1:4] == [batch, f"{batch}-2", "100"]
    assert "UTC, in" in " ".join(waits)
    assert "Nothing has been done" in said
    assert here.commits(small) == commits
    assert [one["status"] for one in lines(here).values() if one["deployment"]["name"] == "urgent"] == []


def test_a_plan_of_what_is_so_already_says_so(here: House, small: str) -> None:
    id = here.submit("web", small)
    assert "Nothing would happen" in here.said("deployments", "scale", id, "1", "--plan")


def test_scaling_and_its_plan(here: House, small: str) -> None:
    id = here.submit("web", small, "--cpu", "1")
    said = here.said("deployments", "scale", id, "2", "--plan")
    assert cells(said, "Would be placed") == [[f"{id}-2", "1", "totals", "-"]]
    assert lines(here)[id]["deployment"]["replicas"] == 1
    said = here.said("deployments", "scale", id, "2")
    assert cells(said, "Placed") == [[f"{id}-2", "1", "totals", "-"]]
    assert lines(here)[id]["placed"] == 2


def test_cancelling_frees_the_places_and_who_waits_gets_them(here: House, small: str) -> None:
    first, second = here.submit("a", small, "--cpu", "2"), here.submit("b", small, "--cpu", "2")
    planned = here.said("deployments", "cancel", first, "--plan")
    assert cells(planned, "Would be placed") == [[f"{second}-1", "1", "totals", "-"]]
    assert "Nobody would wait then." in planned
    said = here.said("deployments", "cancel", first)
    assert cells(said, "Placed") == [[f"{second}-1", "1", "totals", "-"]]
    assert first not in lines(here)
    assert lines(here, "--all")[first]["status"] == "cancelled"
    assert "already" in here.said("deployments", "cancel", first)


def test_what_runs_can_be_complete_and_what_waits_can_not(here: House, small: str) -> None:
    runs, waits = here.submit("a", small, "--cpu", "2"), here.submit("b", small, "--cpu", "2")
    refused = here.stratus("deployments", "complete", waits)
    assert refused.exit_code == 1
    assert "does not run yet" in refused.output
    here.said("deployments", "complete", runs)
    assert lines(here, "--all")[runs]["status"] == "completed"


def test_the_queue_tells_who_waits_for_what(here: House, small: str) -> None:
    here.submit("a", small, "--cpu", "2", "--duration", "10m")
    low = here.submit("b", small, "--cpu", "2", "--priority", "100")
    high = here.submit("c", small, "--cpu", "2", "--priority", "300")
    said = here.said("queue", small)
    rows = cells(said, f"Waiting for a place on {small}")
    assert [row[:4] for row in rows] == [["1", high, f"{high}-1", "300"], ["2", low, f"{low}-1", "100"]]
    assert "no node fits, for want of: 1 CPU" in said
    assert f"Waiting for a place on {small}" in here.said("queue")
    (told,) = here.told("queue", small)
    assert [turn["deployment_id"] for turn in told["turns"]] == [high, low]
    assert told["turns"][0]["eta_ms"] is not None
    assert told["turns"][1]["eta_ms"] is None


def test_a_queue_where_nobody_waits(here: House, small: str) -> None:
    assert here.said("queue", small) == "Nobody waits for a place.\n"


def test_a_watched_queue_is_told_anew_when_something_happens(here: House, small: str) -> None:
    script = "from gateway.cli import main; main()"
    watching = subprocess.Popen(
        [sys.executable, "-c", script, "queue", small, "--watch", "--json", "--nats", here.url],
        stdout=subprocess.PIPE,
        env=dict(os.environ) | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert watching.stdout is not None
    seen = [json.loads(watching.stdout.readline())]
    here.submit("a", small, "--replicas", "2", "--cpu", "2")
    while not seen[-1][0]["turns"]:
        seen.append(json.loads(watching.stdout.readline()))
    watching.send_signal(signal.SIGINT)
    assert watching.wait() == 130
    watching.stdout.close()
    assert seen[0][0]["turns"] == []
    assert len(seen[-1][0]["turns"]) == 1


def test_why_something_is_where_it_is(here: House) -> None:
    cluster, nodes = here.machines(1, 1)
    id = here.submit("web", cluster, "--gpus", "1", "--cpu", "1")
    said = here.said("why", id)
    (row,) = cells(said, "Where it is")
    assert row[0] == f"{id}-1"
    assert row[1] in nodes
    assert set(nodes) <= {word.rstrip(",") for word in row}
    assert "best of 2 looked at" in said
    (told,) = here.told("why", id)
    assert told["there"]["node_id"] == row[1]
    assert row[-1] == told["there"]["policy"]
    assert here.told("why", f"{id}-1") == [told]


def test_why_something_waits_and_what_would_help(here: House) -> None:
    cluster, _ = here.machines(2, 0)
    here.submit("a", cluster, "--gpus", "2", "--cpu", "1")
    id = here.submit("b", cluster, "--gpus", "1", "--cpu", "1", "--replicas", "2")
    said = here.said("why", id)
    assert f"{id}-1 waits at 1 of the queue" in said
    assert f"{id}-2 waits at 2 of the queue" not in said, "what holds for both is told once"
    for row in ("cpu 1 7 4", "GPUs 1 0 0"):
        assert row.split() in [line.split() for line in said.splitlines()]
    for words in ("2 with too few GPUs free", "would help", "priority 501 instead of 500", "1 GPU free"):
        assert words in said
    assert [one["waiting"]["position"] for one in here.told("why", id)] == [1, 2]


def test_why_of_very_many_tells_first_of_those_that_wait(here: House) -> None:
    cluster = here.cluster("--cpu", "30", "--memory", "64g")
    id = here.submit("many", cluster, "--replicas", "62", "--cpu", "0.5")
    said = here.said("why", id)
    assert "Of these, 50 are shown, those that wait first" in said
    shown = cells(said, "Replicas")
    assert len(shown) == 50
    assert [row[0] for row in shown[:3]] == [f"{id}-61", f"{id}-62", f"{id}-1"]
    assert len(here.told("why", id)) == 62


def test_why_a_gang_waits(here: House) -> None:
    cluster, _ = here.machines(1, 1)
    here.submit("a", cluster, "--gpus", "1")
    said = here.said("why", here.submit("b", cluster, "--gpus", "1", "--replicas", "2", "--gang"))
    assert "a gang, priority 500" in said
    assert "1 of 2 fit together" in said


def test_why_something_has_lost_its_place(here: House) -> None:
    cluster, nodes = here.machines(0, 0)
    low = here.submit("low", cluster, "--cpu", "4", "--priority", "100", "--replicas", "2")
    high = here.submit("high", cluster, "--cpu", "4", "--priority", "700")
    said = here.said("why", low)
    (lost,) = cells(said, "Lost its place before")
    assert lost[3:5] == ["preempted", f"{high}-1/1"]
    assert lost[2] in nodes
    best, *_ = cells(said, "What that cost, the smallest first")
    assert best[0] == lost[2]
    assert best[1:3] == ["0", "100"]
    assert "evicted once before" in said
    assert f"For {high}-1 had to go: {lost[0]}/1." in here.said("why", high)


def test_why_something_that_has_ended_is_nowhere(here: House, small: str) -> None:
    id = here.submit("web", small)
    here.said("deployments", "cancel", id)
    assert f"{id} (web, for {ADA}) was cancelled" in here.said("why", id)
    assert here.told("why", id) == []
    assert "has no place and asks for none" in here.said("why", f"{id}-1").replace("; it ", " ")


def test_clusters_tell_what_is_used_of_what(here: House) -> None:
    name = here.cluster("--cpu", "32", "--memory", "64g", "--gpus", "8", "--owner", ADA)
    here.submit("web", name, "--cpu", "1.5", "--memory", "512m", "--gpus", "1")
    here.submit("large", name, "--cpu", "32")
    (row,) = (row for row in cells(here.said("clusters"), "Clusters") if row[1] == name)
    assert " ".join(row[2:]) == f"{ADA} 1 1.5 of 32 512 MiB of 64 GiB 1 of 8 1"
    told = of(here.told("clusters"), name=name)
    assert told["used"] == {"cpu_milli": 1500, "memory_mib": 512, "gpu_milli": 1000}
    assert told["total"] == {"cpu_milli": 32_000, "memory_mib": 65_536, "gpu_milli": 8000}
    assert told["waiting"] == 1


def test_a_name_is_given_once(here: House, small: str) -> None:
    refused = here.stratus("clusters", "create", small, "--cpu", "1", "--memory", "1g")
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: ")


def test_a_quota_limits_until_it_is_lifted(here: House, small: str) -> None:
    quota = ("clusters", "quota", small, ADA)
    waiting = here.submit("a", small, "--replicas", "2", "--cpu", "1")
    here.said("deployments", "cancel", waiting)
    assert "QuotaSet" in here.said(*quota, "--cpu", "1", "--plan")
    assert of(here.told("clusters"), name=small)["quotas"] == []
    said = here.said(*quota, "--cpu", "1", "--gpus", "0.5", "--borrow", "0", "--weight", "50")
    assert said == f"{ADA} has its quota on {small}.\n"
    assert [small, ADA, "0", "of", "1", "0", "MiB", "of", "any", "0", "of", "0.5", "0", "%", "50"] in cells(
        here.said("clusters"), "Quotas"
    )
    id = here.submit("b", small, "--replicas", "2", "--cpu", "1")
    assert "the quota allows no more CPU" in here.said("why", id)
    assert cells(here.said(*quota, "--lift", "--plan"), "Would be placed")[0][0] == f"{id}-2"
    assert cells(here.said(*quota, "--lift"), "Placed")[0][0] == f"{id}-2"
    assert f"{ADA} is limited no more on {small}, as before." in here.said(*quota, "--lift")


def test_repacking_moves_what_wastes(here: House) -> None:
    cluster, nodes = here.machines(2, 2)
    first = [here.submit(f"f{n}", cluster, "--gpus", "1", "--cpu", "1") for n in range(4)]
    placed = {id: here.told("why", id)[0]["there"]["node_id"] for id in first}
    for node in nodes:  # one is left on each
        here.said("deployments", "cancel", next(id for id in first if placed[id] == node))
    planned = here.said("clusters", "repack", cluster, "--moves", "1", "--plan")
    (moved,) = cells(planned, "Would lose their places")
    assert moved[3] == "repacked"
    assert moved[5:] == ["goes", "to", *(node for node in nodes if node != moved[2])]
    said = here.said("clusters", "repack", cluster, "--moves", "1")
    assert cells(said, "Lost their places") == [moved]
    assert f"{cluster} wastes" in said
    assert "nothing has been moved" in here.said("clusters", "repack", cluster)


def test_nodes_tell_how_full_they_are(here: House) -> None:
    cluster, (node,) = here.machines(2)
    here.submit("web", cluster, "--gpu-share", "0.5", "--cpu", "0.5", "--memory", "1g")
    (row,) = (row for row in cells(here.said("nodes"), "Machines") if row[0] == node)
    assert " ".join(row[1:]) == f"{cluster} ready 1 0.5 of 4 1 GiB of 8 GiB 0.5 of 2 T4"
    told = of(here.told("nodes"), node_id=node)
    assert (told["state"], told["runs"], told["used"]["gpu_milli"]) == ("ready", 1, 500)


def test_draining_moves_what_runs_there(here: House) -> None:
    cluster, nodes = here.machines(0, 0)
    id = here.submit("web", cluster, "--cpu", "3")
    (told,) = here.told("why", id)
    left = told["there"]["node_id"]
    (other,) = (node for node in nodes if node != left)
    commits = here.commits(cluster)
    planned = here.said("nodes", "drain", left, "--plan")
    assert cells(planned, "Would lose their places") == [
        [f"{id}-1", "1", left, "drained", "-", "goes", "to", other]
    ]
    assert here.commits(cluster) == commits
    assert f"{left} gets nothing new, and what it runs goes elsewhere." in here.said("nodes", "drain", left)
    here.until(lambda views: views.scheduling.placement(f"{id}-1", 2) == other)
    assert of(here.told("nodes"), node_id=left)["state"] == "drained"
    assert f"before, it was drained from {left}" in here.said("why", id)


def test_a_cordoned_node_keeps_what_it_runs_and_gets_nothing_until_it_may(here: House) -> None:
    cluster, (node,) = here.machines(0)
    here.submit("a", cluster, "--cpu", "1")
    assert "NodeWithdrawn" in here.said("nodes", "cordon", node, "--plan")
    here.said("nodes", "cordon", node)
    here.until(lambda views: not views.scheduling.clusters[cluster].offers[node].open)
    assert "as before" in here.said("nodes", "cordon", node)
    told = of(here.told("nodes"), node_id=node)
    assert (told["state"], told["runs"]) == ("cordoned", 1)
    waiting = here.submit("b", cluster, "--cpu", "1")
    assert "no node takes work" in here.said("why", waiting)
    planned = here.said("nodes", "uncordon", node, "--plan")
    assert cells(planned, "Would be placed") == [[f"{waiting}-1", "1", node, "-"]]
    here.said("nodes", "uncordon", node)
    here.until(lambda views: views.scheduling.placement(f"{waiting}-1", 1) == node)


@pytest.mark.parametrize(
    ("words", "next_step"),
    [
        ("deployments scale dep_x 2", "there is no such deployment: dep_x (see `stratus deployments`)"),
        ("deployments cancel dep_x", "see `stratus deployments`"),
        (
            "deployments submit web --ref web:1 --cluster nix",
            "there is no such cluster: nix (see `stratus clusters`)",
        ),
        ("deployments submit web --image img_x", "there is no such image: img_x (see `stratus status`)"),
        (
            "deployments submit web --ref web:1 --tenant nix",
            f"there is no such tenant: nix (there are {CLUB}, {ADA}, ",
        ),
        ("why nix", "there is no such deployment or container: nix (see `stratus deployments` and"),
        ("queue nix", "see `stratus clusters`"),
        ("clusters quota nix usr_ada --cpu 1", "see `stratus clusters`"),
        ("clusters create c --cpu 1 --memory 1g --owner nix", "there is no such tenant"),
        ("nodes drain nix", "there is no such node: nix (see `stratus nodes`)"),
    ],
)
def test_where_there_is_no_such_thing_the_next_step_is_told(here: House, words: str, next_step: str) -> None:
    refused = here.stratus(*words.split())
    assert refused.exit_code == 1
    assert next_step in refused.output


@pytest.mark.parametrize("plan", [(), ("--plan",)])
def test_a_refusal_is_the_platforms_own_planned_or_not(
    here: House, small: str, plan: tuple[str, ...]
) -> None:
    refused = here.stratus(
        "deployments", "submit", "x", "--ref", "x", "--cluster", small, "--cpu", "64", *plan
    )
    assert refused.exit_code == 1
    assert "larger than any node" in refused.output


def test_what_has_ended_can_not_be_scaled(here: House, small: str) -> None:
    id = here.submit("web", small)
    here.said("deployments", "cancel", id)
    refused = here.stratus("deployments", "scale", id, "2")
    assert refused.exit_code == 1
    assert f"{id} has been cancelled: see `stratus deployments`" in refused.output


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("deployments submit web", "either --ref or --image"),
        ("deployments submit web --ref a --image b", "either --ref or --image"),
        ("deployments submit web --ref a --cpu lots", "a CPU limit looks like 0.5 or 500m"),
        ("deployments submit web --ref a --memory lots", "a memory limit looks like 512m"),
        ("deployments submit web --ref a --duration soon", "a duration looks like 90s, 10m"),
        ("clusters quota default usr_ada", "--cpu, --memory or --gpus; or --lift"),
        ("clusters quota default usr_ada --lift --cpu 1", "--lift takes the whole quota away"),
    ],
)
def test_what_it_does_not_understand_it_says(here: House, words: str, complaint: str) -> None:
    refused = here.stratus(*words.split())
    assert refused.exit_code == 2
    assert complaint in refused.output


def test_a_name_can_not_paint_the_terminal(here: House, small: str) -> None:
    here.submit("[red]\x1b[2J", small)
    assert "[red]\ufffd[2J" in here.said("deployments")


def test_where_the_platform_is_may_be_said_before_the_subcommand(here: House) -> None:
    elsewhere = {"STRATUS_NATS_URL": "nats://127.0.0.1:1"}
    words = ("nodes", "--nats", here.url, "drain", "nix")
    assert "there is no such node: nix" in CliRunner().invoke(main, words, env=elsewhere).output


def test_on_an_empty_platform_each_list_says_what_would_fill_it(stratus: Stratus) -> None:
    assert "`stratus deployments submit`" in stratus("deployments").output
    assert "`stratus clusters create`" in stratus("clusters").output
    assert stratus("queue").output == "Nobody waits for a place.\n"
    assert "node-2" in stratus("nodes").output


def test_without_handlers_it_says_that_nobody_answers(stratus: Stratus, broker: Broker) -> None:
    refused = stratus("nodes", "drain", "node-2", "--plan")
    assert refused.exit_code == 1
    assert "nobody answers ask._.scheduling.default" in refused.output
    assert "`stratus doctor`" in refused.output


def test_times_are_read_as_people_write_them() -> None:
    assert [duration_ms(text) for text in ("90s", "10m", "2h", "1d")] == [
        90_000,
        600_000,
        7_200_000,
        86_400_000,
    ]
    assert [span(ms) for ms in (-5, 90_000, 600_000, 86_400_000, 200_000_000)] == [
        "0 s",
        "90 s",
        "10 min",
        "24 h",
        "2 d",
    ]
    assert moment(1_795_000_300_000, 1_795_000_000_000) == "11:11 UTC, in 5 min"
    assert moment(1_795_100_000_000, 1_795_000_000_000).startswith("2026-11-1")
