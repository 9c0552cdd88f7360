"""What a cluster could never run is refused at once, with what it asks too much of."""

from __future__ import annotations

from core.messages.deployments import SubmitDeployment, Unsatisfiable
from handlers.cluster import Cluster
from handlers.quota import Amounts
from handlers.room import WHOLE, Need


def refuse_impossible(cluster: Cluster, command: SubmitDeployment) -> None:
    """Raises `Unsatisfiable`. A cluster that has no nodes yet may get any."""
    share, kinds = command.share, cluster.books.kinds
    if share.gpus > 1 and share.gpu_milli < 1000:
        raise Unsatisfiable("share.gpu_milli: only one GPU can be shared, several are taken whole")
    need = Need(
        share.cpu_milli,
        share.memory_mib,
        share.gpus,
        share.gpu_milli if share.gpus else 0,
        share.gpu_models if share.gpus else (),
    )
    quota = cluster.quotas.get(command.tenant)
    members = command.replicas if command.gang else 1
    if quota and (lacking := quota.exceeded(_times(need, members - 1), need, borrowing=True)):
        raise Unsatisfiable(f"share: more {lacking} than the quota allows, even if nothing else ran")
    if not kinds:
        return
    models = sorted({kind.gpu_model for kind in kinds if kind.gpu_model})
    if need.models and not set(need.models) & set(models):
        there = f"there are {', '.join(models)}" if models else "there are none at all"
        raise Unsatisfiable(f"share.gpu_models: no node has {' or '.join(need.models)}; {there}")
    if not any(kind.is_large_enough(need) for kind in kinds):
        most_cpu, most_memory, most_gpus = (max(sizes) for sizes in list(zip(*kinds, strict=True))[:3])
        raise Unsatisfiable(
            f"share: larger than any node: needs {need.cpu_milli} mCPU, {need.memory_mib} MiB and "
            f"{need.gpus} GPUs at once; the most of each that any node has is {most_cpu} mCPU, "
            f"{most_memory} MiB and {most_gpus} GPUs"
        )
    whole, total = _times(need, members), Amounts()
    for kind, count in kinds.items():
        total.add(Need(kind.cpu_milli, kind.memory_mib, kind.gpus, WHOLE), count)
    if (
        whole.cpu_milli > total.cpu_milli
        or whole.memory_mib > total.memory_mib
        or whole.gpu_milli > total.gpu_milli
    ):
        raise Unsatisfiable(f"replicas: {members} of these at once are more than the whole cluster")


def _times(need: Need, times: int) -> Amounts:
    amounts = Amounts()
    amounts.add(need, times)
    return amounts
