"""From a simulated step to what a device must hold, and for how long: allocated, reserved, device; load, save, rollouts; time.

forecast(simulation, setup, device("T4"), error=0.08).fits
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tunesmith.plan import formulas, shards
from tunesmith.plan.allocate import Replayed, replay
from tunesmith.plan.devices import Device
from tunesmith.plan.rates import Rates, seconds
from tunesmith.plan.setup import Setup
from tunesmith.plan.simulate import PHASES, Simulation

PACKED = {"int8": 1.0, "nf4": 0.5}  # bytes a weight in the closed formulas, scales not counted
SLACK = 1.05  # rounding and fragmentation where no log is there to replay: while searching
RUNTIME = 620 << 20  # a Python with torch and transformers loaded, before any model


@dataclass(frozen=True)
class Forecast:
    """Bytes and seconds of a run.

    live       tensors alive at the highest moment of a step, by kind in `kinds`, at the operation `where`
    allocated  the same as the device's allocator counts it; reserved: what it asked of the device
    device     all that the device shows: context or runtime on top, and the highest of `phases`
    error      share by which device may be off (live by less: calibrate.LIVE); fits: whether device x (1 + error) is within the memory
    seconds    of a pass and an update; None where no rate is known; pace: what the seconds of the rates were multiplied by for that
    every_layer  False where the layers of a deep network were not all run (shorter.py)
    """

    live: int
    kinds: dict[str, int]
    where: str
    allocated: int
    reserved: int
    device: int
    phases: dict[str, int]
    error: float
    memory: int
    flops: int
    tokens: int
    parameters: int
    trainable: int
    seconds_pass: float | None
    seconds_update: float | None
    setup: Setup
    closed: dict[str, float] = field(default_factory=dict)
    pace: float = 1.0
    every_layer: bool = True

    @property
    def fits(self) -> bool:
        return self.device * (1 + self.error) <= self.memory

    @property
    def flops_per_token(self) -> float:
        return self.flops / max(1, self.tokens)

    def tokens_per_second(self, tokens_per_step: float) -> float | None:
        """Tokens a second with so many in a step: passes scale with them, the update comes once."""
        if self.seconds_pass is None or self.seconds_update is None:
            return None
        return tokens_per_step / (self.seconds_pass * tokens_per_step / max(1, self.tokens) + self.seconds_update)

    def paced(self, pace: float) -> "Forecast":
        """The same at another pace."""
        if self.seconds_pass is None or self.seconds_update is None:
            return replace(self, pace=pace)
        by = pace / self.pace
        return replace(self, seconds_pass=self.seconds_pass * by, seconds_update=self.seconds_update * by, pace=pace)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fits": self.fits}


def forecast(
    seen: Simulation,
    setup: Setup,
    device: Device,
    *,
    error: float,
    rates: Rates | None = None,
    pace: float = 1.0,
    config: Any = None,
    devices: int = 1,
    stage: int = 0,
    kept_tokens: Mapping[str, int] | None = None,
    runtime: int = RUNTIME,
    packed: bool = False,
    frozen: bool = False,
) -> Forecast:
    """What a run of `setup` needs on `device`.

    devices, stage   data-parallel processes and the ZeRO stage over them
    pace             what the seconds of rates are multiplied by: how steps on that device stood beside them
    runtime          on a processor: bytes of the process before any model
    kept_tokens      {phase that samples answers: tokens whose keys and values are held at its highest moment}
    packed           the base lies in few bits in its folder already: it is never whole
    frozen           an adapter learns beside the base, which a card then gets in the format that trains
    """
    width = 2 if setup.precision in ("bf16", "fp16") else 4
    part = _part(seen, devices, stage, width, stored=width if frozen and device.cuda else 4)
    live, spared = part.step, seen.peak.bytes - part.step
    phases = {
        "load": loading(seen, packed) if not device.cuda else on_a_card(seen, width if frozen else 4),
        "step": live,
    }
    if "evaluation" in seen.after:
        phases["evaluation"] = part.evaluation
    for name, tokens in (kept_tokens or {}).items():
        phases[name] = part.answers + formulas.kv_cache(tokens, *_heads(config), bytes_each=width)
    copied = seen.after["save"] - seen.held  # some states are put into another form to be saved
    if device.cuda:
        if copied > 0:
            phases["save"] = part.held + copied
        slack = SLACK if seen.log is None else None
        replayed = replay(seen.log) if seen.log is not None else Replayed(seen.peak.bytes, 0)
        extra = max(0, max(phases.values()) - live)
        allocated = round(replayed.allocated * (slack or 1)) + device.workspace - spared + extra
        reserved = max(allocated, replayed.reserved + device.workspace - spared + extra)
        total = reserved + device.context
    else:
        phases["save"] = part.held + copied + 4 * seen.largest  # the first checkpoint is read back, a tensor at a time
        if part.result > part.held:
            phases["result"] = part.result
        allocated = reserved = live
        total = max(phases.values()) + runtime
    took = seconds(seen.work, rates) if rates is not None else None
    peak = seen.peak
    return Forecast(
        live=live, kinds=part.kinds, where=f"{peak.phase}: {peak.op} in {peak.place}" + (f" ({peak.layer})" if peak.layer else ""),
        allocated=allocated, reserved=reserved, device=total, phases=phases, error=error, memory=device.memory,
        flops=seen.flops, tokens=seen.num_tokens, parameters=seen.parameters, trainable=seen.trainable,
        seconds_pass=took.passes * pace if took else None, seconds_update=took.update * pace if took else None, setup=setup,
        closed=_closed(seen, setup, config, PACKED.get(seen.packing, width)), pace=pace, every_layer=seen.log is not None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """Bytes of one process: at the highest moment of a step, by kind; between steps; in what comes between steps and at the end."""

    kinds: dict[str, int]
    held: int
    evaluation: int
    answers: int
    result: int

    @property
    def step(self) -> int:
        return sum(self.kinds.values())


def _part(seen: Simulation, devices: int, stage: int, width: int, stored: int) -> _Part:
    """What of a simulated step one of `devices` processes holds. width, stored: see shards.cut."""
    kinds, evaluation = dict(seen.peak.kinds), seen.after.get("evaluation", 0)
    states = kinds["optimizer"] + kinds["masters"]
    if devices == 1 or not stage:
        return _Part(kinds, seen.held, evaluation, seen.held, seen.after["result"])
    if stage < 3:
        cut = formulas.shard(kinds["weights"], kinds["gradients"], states, devices=devices, stage=stage)
        spared = states - cut.optimizer
        held = seen.held - spared
        kinds |= {"gradients": cut.gradients, "optimizer": cut.optimizer, "masters": 0}
        return _Part(kinds, held, evaluation - spared, held, seen.after["result"] - spared)
    shared = shards.cut(seen.groups, devices=devices, width=width, stored=stored)
    states = -(-kinds["optimizer"] // devices)  # the rows of the weights are fp32: they are their own masters
    rest = {name: seen.rest[name] - kinds["helpers"] for name in (*PHASES, "evaluation")}
    rest["update"] //= devices
    rest["gather"] = 0
    own = shared.gradients
    before = (
        own if seen.accumulated else 0
    )  # else they come block by block, half of them in the first half of the backward pass
    of_step = {
        "gather": (shared.gather, before), "forward": (shared.weights, before),
        "backward begins": (shared.weights, max(before, own // 2) + shared.moving),
        "backward ends": (shared.weights, own + shared.moving), "update": (shared.held, own),
    }  # fmt: skip
    phase = max(of_step, key=lambda name: sum(of_step[name]) + rest[name])
    weights, gradients = of_step[phase]
    loss = min(kinds["loss"], rest[phase])
    kinds |= {"weights": weights, "gradients": gradients, "optimizer": states, "masters": 0, "loss": loss,
              "activations": rest[phase] - loss, "temporaries": 0}  # fmt: skip
    beside = states + kinds["helpers"]
    evaluation = beside + max(shared.gather, shared.weights + rest["evaluation"])
    return _Part(kinds, shared.held + beside, evaluation, shared.answers + beside, shared.result + beside)


def loading(seen: Simulation, packed: bool) -> int:
    """Bytes of the network at the highest moment of its loading: in fp32, also where it is packed then, layer by layer; without the
    matrices that stay in their file, and with the codes where they lie in it already (`packed`)."""
    return seen.loaded if packed or seen.packing == "streamed" else seen.parameters * 4


def on_a_card(seen: Simulation, width: int) -> int:
    """As `loading`, on a card: packed layers come one after the other, and the rest is `width` bytes a weight where it is frozen."""
    if seen.packing:
        return seen.loaded
    return (seen.parameters - seen.trainable) * width + seen.trainable * 4


@dataclass(frozen=True)
class Cost:
    """What a run reads and takes: parameters, tokens, operations; seconds and cost where the device's speed is known. None = not known.

    rate     tokens a second of all devices together;  steps  updates, where they are known
    """

    parameters: int
    tokens: float | None
    operations: float | None
    seconds: float | None
    cost: float | None
    rate: float | None
    steps: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cost_of(
    seen: Forecast,
    *,
    tokens: float | None,
    price: float | None = None,
    devices: int = 1,
    step_tokens: float | None = None,
    steps: int | None = None,
) -> Cost:
    """What a run over `tokens` tokens takes.

    price        of one device for an hour;  step_tokens  tokens of a step on one device, None = rows of full length
    """
    each = seen.tokens_per_second(step_tokens or max(seen.tokens, seen.setup.batch_size * seen.setup.length))
    rate = None if each is None else each * devices
    took = tokens / rate if tokens is not None and rate else None
    return Cost(
        seen.parameters, tokens, None if tokens is None else seen.flops_per_token * tokens, took,
        None if took is None or price is None else took / 3600 * price * devices, rate, steps,
    )  # fmt: skip


def _heads(config: Any) -> tuple[int, int, int]:
    """(layers, key heads, head dimension)."""
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return int(config.num_hidden_layers), int(getattr(config, "num_key_value_heads", None) or heads), width


def _closed(seen: Simulation, setup: Setup, config: Any, width: float) -> dict[str, float]:
    """The closed formulas for the same model, in bytes. width: of a weight as the base is held; what trains has 2 or 4."""
    out = {
        "inference N x M x 1.2": formulas.inference(seen.parameters, width),
        "gradients and states N x 3 x M": formulas.states(
            seen.trainable, 2 if setup.precision in ("bf16", "fp16") else 4
        ),
        "weights N x M": float(seen.parameters * width),
    }
    if config is not None:
        out["activations 34 s b h L"] = formulas.activations(
            min(setup.pass_tokens, seen.num_tokens), int(config.hidden_size), int(config.num_hidden_layers),
            recomputed=setup.checkpointing is True,
        )  # fmt: skip
    return out
