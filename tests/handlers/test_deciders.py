"""What holds for every decider, whatever is asked of it."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.contexts import CONTEXTS, Context
from core.message import Rejection
from core.messages.catalog import Archive, Instance, Reference, Resources
from core.messages.containers import StartContainer, StopContainer
from core.messages.deployments import EndDeployment, Share
from core.messages.scheduling import Totals
from handlers.deciders import DECIDERS, STATES

KEYS = {
    "identity": st.just("id_1"),
    "names": st.just("hostname:web"),
    "catalog": st.just("img_1"),
    "fleet": st.just("node-a"),
    "scheduling": st.just("default"),
    "containers": st.just("ctr_1"),
    "billing": st.just("default"),
}
"""One stream per context: the first field of all its commands."""

some_id, some_hash, some_run = st.sampled_from("ab"), st.sampled_from(["a" * 64, "b" * 64]), st.integers(1, 2)
few, some_priority = st.integers(1, 3), st.sampled_from([1, 500, 900])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "address": some_id,
    "at_ms": st.integers(0, 4),
    "by": some_id,
    "borrow_percent": st.just(50),
    "bytes": st.integers(1, 2),
    "carrier": some_id,
    "cause": st.sampled_from(["drained", "lost"]),
    "cluster_id": st.just("default"),
    "container_id": some_id,
    "cpu_milli": st.sampled_from([500, 2000]),
    "created_by": some_id,
    "deployment_id": some_id,
    "detail": st.just(""),
    "done": st.booleans(),
    "duration_ms": st.just(0),
    "email": st.none() | some_id,
    "ending": st.sampled_from(["stopped", "exited", "oom", "lost", "unstartable", "evicted"]),
    "engine": st.just("docker"),
    "exit_code": st.integers(-1, 1),
    "from_ms": st.integers(0, 6),
    "gang": st.booleans(),
    "gpu_milli": st.just(1000),
    "gpu_model": st.just("T4"),
    "gpu_models": st.just(()),
    "gpus": st.integers(0, 1),
    "holder": some_id,
    "hostname": st.none() | st.just("web.example"),
    "image_id": some_id,
    "instances": st.lists(st.builds(Instance, st.sampled_from("abcd"), st.just("web")), min_size=1).map(
        tuple
    ),
    "invite_hash": some_hash,
    "max_instances": st.integers(1, 3),
    "memory_mib": st.sampled_from([64, 512, 900]),
    "min_instances": st.integers(1, 2),
    "minute_nanos": st.integers(1, 2),
    "moves_max": st.just(100),
    "name": some_id,
    "node_id": some_id,
    "organization_id": some_id,
    "owner": st.just("usr_1"),
    "outcome": st.sampled_from(["completed", "cancelled"]),
    "port": st.just(8080),
    "preemptible": st.booleans(),
    "priority": some_priority,
    "reason": some_id,
    "ref": some_id,
    "replicas": few,
    "restart": st.sampled_from(["always", "on_failure"]),
    "resources": st.just(Resources()),
    "run": some_run,
    "runtime_id": some_id,
    "sealed": some_id,
    "secret_hash": some_hash,
    "session": some_id,
    "share": st.sampled_from([Share(500, 64), Share(2000, 900, 1, 500)]),
    "source": st.just(Reference("web:1")) | st.just(Archive("upload", "a" * 64, 9)),
    "strict": st.booleans(),
    "tag": some_id,
    "tenant": st.sampled_from(["a", "usr_1"]),
    "totals": st.none() | st.just(Totals(4000, 4000, 1)),
    "unique": st.booleans(),
    "until_ms": st.integers(0, 9),
    "user_id": some_id,
    "username": some_id,
    "weight": st.just(100),
}
TELLS_WHO_COMES_SECOND = StartContainer | StopContainer | EndDeployment
"""They refuse whoever asks for what somebody else has just done."""


def wishes(context: Context) -> st.SearchStrategy[Any]:
    """Any command of a context, about one stream, from so few values that they often meet."""

    def of(command: Any) -> st.SearchStrategy[Any]:
        key, *rest = command.__struct_fields__
        fields = {key: KEYS[context.name], **{name: FIELDS[name] for name in rest}}
        return st.builds(command, **fields)

    return st.one_of([of(command) for command in get_args(context.commands) or (context.commands,)])


def test_every_context_has_its_decider() -> None:
    names = {context.name for context in CONTEXTS}
    assert DECIDERS.keys() == names
    assert STATES.keys() == names


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_asking_twice_is_asking_once_and_the_state_travels_in_a_commit(context: Context, data: Any) -> None:
    decider, shape = DECIDERS[context.name], STATES[context.name]
    state = decider.initial
    for command in data.draw(st.lists(wishes(context), max_size=25)):
        try:
            events = decider.decide(command, state)
        except Rejection:
            continue
        for event in events:
            state = decider.evolve(state, event)
        written = msgspec.json.encode(state, order="sorted")
        assert msgspec.json.decode(written, type=shape) == state

        if events and isinstance(command, TELLS_WHO_COMES_SECOND):
            with pytest.raises(Rejection):
                decider.decide(command, state)
        else:
            assert decider.decide(command, state) == []
        assert decider.alongside(command, state) == ()


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.name)
def test_the_initial_state_travels_too(context: Context) -> None:
    initial = DECIDERS[context.name].initial
    assert msgspec.json.decode(msgspec.json.encode(initial), type=STATES[context.name]) == initial
