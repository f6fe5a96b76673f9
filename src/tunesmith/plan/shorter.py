"""A deep network's peak from two shallow ones: all layers alike, each part of a step grows by the same bytes a layer.

    peak = deeper(seen6, seen8, 6, 8, 32)        # a Simulation of 32 layers without running it

Used for searching only; what is proposed is simulated whole. tests/plan/test_shorter.py holds the two equal.
"""

import copy
from dataclasses import astuple, replace
from typing import Any

from tunesmith.plan.shards import Groups
from tunesmith.plan.simulate import Simulation

SHALLOW = (5, 7)


def alike(config: Any) -> bool:
    """Whether all layers of a configuration are of one kind, and there are enough of them for this to pay."""
    kinds = getattr(config, "layer_types", None)
    plain = not any(
        getattr(config, name, None) for name in ("num_experts", "num_local_experts", "first_k_dense_replace")
    )
    return int(getattr(config, "num_hidden_layers", 0)) > 2 * SHALLOW[1] and plain and len(set(kinds or ["one"])) == 1


def cut(config: Any, layers: int) -> Any:
    """The configuration with so many layers."""
    made = copy.deepcopy(config)
    made.num_hidden_layers = layers
    if getattr(made, "layer_types", None):
        made.layer_types = list(made.layer_types)[:layers]
    return made


def deeper(few: Simulation, more: Simulation, layers: int) -> Simulation:
    """The simulation of `layers` layers from those of SHALLOW[0] and SHALLOW[1]."""
    steps = (layers - SHALLOW[0]) / (SHALLOW[1] - SHALLOW[0])

    def grown(a: float, b: float) -> int:
        return round(a + (b - a) * steps)

    def each(name: str) -> dict[str, int]:
        of_few, of_more = getattr(few, name), getattr(more, name)
        return {key: grown(of_few[key], of_more[key]) for key in of_few}

    top = max(each("phases").values())
    kinds = {name: max(0, grown(few.peak.kinds[name], more.peak.kinds[name])) for name in few.peak.kinds}
    work = {key: grown(few.work.get(key, 0), more.work.get(key, 0)) for key in {*few.work, *more.work}}
    sizes: dict[str, Any] = {
        name: grown(getattr(few, name), getattr(more, name))
        for name in ("weights", "held", "trainable", "parameters", "loaded")
    }
    return replace(
        more,
        peak=replace(more.peak, bytes=top, kinds=kinds),
        phases=each("phases"),
        after=each("after"),
        rest=each("rest"),
        groups=Groups(*map(grown, astuple(few.groups), astuple(more.groups))),
        log=None,
        work={key: times for key, times in work.items() if times > 0},
        **sizes,
    )
