"""A plan as facts for a person or a program, before anything starts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from search.cluster.base import Cluster
from search.cluster.capacity import asked
from search.launch import sharing
from search.launch.plan import Plan
from search.space.parameters import Params, active
from search.store import driver_lock
from trainables.core.errors import DataError
from trainables.core.spec import plain
from trainables.data.cache import already_described
from trainables.method.phases import Phase

_SHOWN_PHASES = 12


def example(plan: Plan) -> tuple[Params, tuple[Phase, ...]]:
    """Return the parameters and phases of one possible trial."""
    space = plan.spec.space
    corner = {path: list(parameter.extremes().values())[-1] for path, parameter in space.items()}
    params = active(space, corner) or {}
    return params, plan.spec.trial(params).recipe.phases()


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON-able data."""
    params, phases = example(plan)
    driver = driver_lock.driver(plan.storage)
    return {
        "study": plan.spec.name,
        "exists": plan.exists,
        "ended": plan.ended(),
        "trials": plan.spec.planned,
        "changes": [*plan.notes, *plan.effects],
        "storage": plan.storage.location,
        "driver": str(driver) if driver else None,
        "cluster": plain(plan.cluster),
        "spec": plan.spec.resolved(),
        "data_notes": _notes(plan),
        "sharing": asdict(sharing.estimate(plan.spec)),
        "example": {"params": params, "phases": [plain(phase) for phase in phases]},
    }


def plan_facts(plan: Plan) -> dict[str, str]:
    """Return a plan for a person to read, by name."""
    spec = plan.spec
    params, phases = example(plan)
    driver = driver_lock.driver(plan.storage)
    state = f"resumes: {plan.ended()} of {spec.planned} trials have ended" if plan.exists else "is new"
    objectives = [f"{direction} {measure}" for measure, direction in spec.objectives.items()]
    bounds = [f"{measure} {bound}" for measure, bound in spec.constraints.items()]
    attack = spec.protocol.attack
    enqueued = min(spec.planned, len(spec.enqueued()) * len(spec.replicates))
    given = f"{enqueued} of them enqueued, the rest " if enqueued else ""
    warm = f", which starts with the points of {', '.join(spec.warm_start)}" if spec.warm_start else ""
    shown = [_phase(phase) for phase in phases[:_SHOWN_PHASES]]
    more = f", ... ({len(phases)} phases in all)" if len(phases) > _SHOWN_PHASES else ""
    found = {
        "study": f"{spec.name}, {state}",
        "storage": plan.storage.location,
        "cluster": _cluster(plan.cluster),
        "data": spec.data.kind + (f" in {spec.data.root}" if spec.data.root else ""),
        "model": spec.model.kind,
        "trials": f"{spec.planned}, {given}chosen by {spec.sampler.kind}{warm}",
        "objectives": "; ".join([*objectives, *bounds]),
        "protocol": f"{attack.label}, {attack.norm}, eps {spec.protocol.eps.text}",
        "searched": ", ".join(spec.space) or "nothing",
        **({"sharing": str(sharing.estimate(spec))} if spec.space else {}),
        "for example": ", ".join(f"{path} = {value}" for path, value in params.items()) or "the default values",
        "phases": ", ".join(shown) + more,
    }
    if notes := _notes(plan):
        found["of the data"] = "; ".join(notes)
    found |= {"changes": "; ".join([*plan.notes, *plan.effects])} if plan.notes or plan.effects else {}
    return {**found, "locked": f"it is driven by {driver}"} if driver else found


def _notes(plan: Plan) -> list[str]:
    """Return what is known of images that are not used, without decoding them."""
    if not plan.cluster.this_machine:
        return []
    data = plan.spec.data.model_copy(update={"download": False})
    try:
        known = already_described(data)
        return list(known.notes if known else data.unused_files())
    except DataError:
        return []


def _phase(phase: Phase) -> str:
    data = plain(phase, defaults=False)
    settings = [
        f"{name}={value}" for name, value in data.items() if name != "kind" and not isinstance(value, (dict, list))
    ]
    return " ".join([phase.kind, *settings])


def _cluster(cluster: Cluster) -> str:
    each = asked(cluster)
    if cluster.runner == "inline":
        return f"{cluster.where()}; {each} for it"
    at_once = f"{cluster.concurrency} at once" if cluster.concurrency else "as many at once as fit"
    if cluster.max_concurrency:
        at_once = f"up to {cluster.max_concurrency} at once, as nodes come"
    return f"{cluster.where()}; {each} for each trial, {at_once}"
