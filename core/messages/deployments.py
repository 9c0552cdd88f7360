"""Deployments: so many replicas of one image, wanted on a cluster, with a priority.

They are decided in their cluster's stream, where capacity is: what is placed, who
has to go for it and who waits is one decision, and one commit.
"""

from __future__ import annotations

from typing import Annotated, Literal, NewType

from msgspec import Meta, Struct

from core.message import Command, Event, GpuModel, Invalid, Millis, Port, Rejection, Token, Unknown
from core.messages.catalog import Hostname

DeploymentId = NewType("DeploymentId", str)
DeploymentName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
Ref = Annotated[str, Meta(min_length=1, max_length=512)]
"""What the engine knows an image by; it is the engine that says whether it does."""

Replicas = Annotated[int, Meta(ge=1, le=1000)]
Priority = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
"""Higher goes first, and may take the place of lower."""

Amount = Annotated[int, Meta(ge=1, le=10**12)]
Outcome = Literal["completed", "cancelled"]
Restart = Literal["always", "on_failure"]
"""Whether a replica that has ended with exit code 0 runs again, or has done its work."""

PRIORITY = 500


class Share(Struct, frozen=True, forbid_unknown_fields=True):
    """What one replica takes: thousandths of a CPU, MiB, GPUs and thousandths of each of those.

    Only one GPU can be shared; `gpu_models` are those that will do, any if there are none.
    """

    cpu_milli: Amount = 500
    memory_mib: Amount = 512
    gpus: Annotated[int, Meta(ge=0, le=10_000)] = 0
    gpu_milli: Annotated[int, Meta(ge=1, le=1000)] = 1000
    gpu_models: Annotated[tuple[GpuModel, ...], Meta(max_length=16)] = ()


class SubmitDeployment(Command):
    """Each replica is placed, or waits for its turn; a gang as a whole.

    `duration_ms` is how long it usually runs, 0 if nobody knows: only forecasts use it.
    With `unique`, no other live deployment of the tenant may have its name, and none in the
    same cluster its priority.
    """

    cluster_id: Token
    deployment_id: Token
    tenant: Token
    name: DeploymentName
    ref: Ref
    owner: Token
    at_ms: Millis
    share: Share = Share()
    replicas: Replicas = 1
    priority: Priority = PRIORITY
    preemptible: bool = True
    gang: bool = False
    duration_ms: Millis = 0
    image_id: Token | None = None
    hostname: Hostname | None = None
    port: Port = 8080
    unique: bool = False
    restart: Restart = "always"


class ScaleDeployment(Command):
    """To so many replicas; of too many, those that wait go first, and then the newest."""

    cluster_id: Token
    deployment_id: Token
    replicas: Replicas
    at_ms: Millis


class EndDeployment(Command):
    """Gives back all it holds. Any can be `cancelled`.

    Only one that runs can be `completed`, or one all of whose replicas are `done`.
    """

    cluster_id: Token
    deployment_id: Token
    outcome: Outcome
    at_ms: Millis
    done: bool = False


class DeploymentSubmitted(Event):
    """Its replicas are `<deployment_id>-1`, `-2`, ..., and wait from now on."""

    cluster_id: str
    deployment_id: DeploymentId
    tenant: str
    name: str
    ref: str
    owner: str
    at_ms: int
    share: Share
    replicas: int
    priority: int
    preemptible: bool
    gang: bool
    duration_ms: int
    image_id: str | None
    hostname: str | None
    port: int
    unique: bool
    restart: Restart = "always"


class DeploymentScaled(Event):
    """`added` wait from now on; the places of `removed` are free."""

    cluster_id: str
    deployment_id: DeploymentId
    replicas: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    at_ms: int


class DeploymentEnded(Event):
    """All its places are free."""

    cluster_id: str
    deployment_id: DeploymentId
    outcome: Outcome
    at_ms: int


class DeploymentExists(Rejection):
    """This deployment id is taken, or a container is called like one of its replicas."""


class PlaceIsDeployments(Rejection):
    """This place is a deployment's: it is asked for and given back by scaling and ending that."""


class DeploymentIsUnknown(Unknown):
    """There is no such deployment, or it has ended."""


class DeploymentIsPending(Rejection):
    """The deployment does not run yet, so it can not be complete; it can be cancelled."""


class PriorityIsTaken(Rejection):
    """Another live deployment in this cluster has this priority."""


class GangIsWhole(Rejection):
    """A gang runs as a whole: it can not be scaled, only ended and submitted anew."""


class Unsatisfiable(Invalid):
    """The cluster could not run this even if nothing else were there."""


DeploymentsCommand = SubmitDeployment | ScaleDeployment | EndDeployment
DeploymentsEvent = DeploymentSubmitted | DeploymentScaled | DeploymentEnded
