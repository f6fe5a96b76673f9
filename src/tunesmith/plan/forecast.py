"""From a simulated step to what a device must hold, and for how long: allocated, reserved, device; load, save, rollouts; time.

forecast(simulation, setup, device("T4"), error=0.08).fits
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from tunesmith.plan import formulas
from tunesmith.plan.allocate import Replayed, replay
from tunesmith.plan.devices import Device
from tunesmith.plan.rates import Rates, seconds
from tunesmith.plan.setup import Setup
from tunesmith.plan.simulate import Simulation

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
    seconds    of a pass and an update; None where no rate is known
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

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fits": self.fits}


def forecast(
    seen: Simulation,
    setup: Setup,
    device: Device,
    *,
    error: float,
    rates: Rates | None = None,
    config: Any = None,
    devices: int = 1,
    stage: int = 0,
    rollout_tokens: int = 0,
    runtime: int = RUNTIME,
    packed: bool = False,
    frozen: bool = False,
) -> Forecast:
    """What a run of `setup` needs on `device`.

    devices, stage   data-parallel processes and the ZeRO stage over them
    runtime          on a processor: bytes of the process before any model
    rollout_tokens   tokens of all answers that are sampled together, prompts included
    packed           the base lies in few bits in its folder already: it is never whole
    frozen           an adapter learns beside the base, which a card then gets in the format that trains
    """
    kinds = dict(seen.peak.kinds)
    live = seen.peak.bytes
    spared = 0
    if devices > 1 and stage:
        held = (kinds["weights"], kinds["gradients"], kinds["optimizer"] + kinds["masters"])
        layers = int(getattr(config, "num_hidden_layers", 1) or 1)
        split = formulas.shard(*held, devices=devices, stage=stage, largest=kinds["weights"] // layers)
        spared = sum(held) - split.total
        kinds |= {"weights": split.weights, "gradients": split.gradients, "optimizer": split.optimizer, "masters": 0}
        kinds["temporaries"] += split.buffers
        live -= spared
    width = 2 if setup.precision in ("bf16", "fp16") else 4
    saved = seen.trainable * 4 + max(0, seen.held - seen.weights)
    phases = {
        "load": loading(seen, packed) if not device.cuda else on_a_card(seen, width if frozen else 4),
        "step": live,
    }
    if rollout_tokens and config is not None:
        cache = formulas.kv_cache(rollout_tokens, *_heads(config), bytes_each=width)
        phases["rollouts"] = seen.held - spared + cache
    if device.cuda:
        slack = SLACK if seen.log is None else None
        replayed = replay(seen.log) if seen.log is not None else Replayed(seen.peak.bytes, 0)
        extra = max(0, max(phases.values()) - live)
        allocated = round(replayed.allocated * (slack or 1)) + device.workspace - spared + extra
        reserved = max(allocated, replayed.reserved + device.workspace - spared + extra)
        total = reserved + device.context
    else:
        phases["save"] = seen.held - spared + saved
        allocated = reserved = live
        total = max(phases.values()) + runtime
    took = seconds(seen.work, rates) if rates is not None else None
    peak = seen.peak
    return Forecast(
        live=live, kinds=kinds, where=f"{peak.phase}: {peak.op} in {peak.place}" + (f" ({peak.layer})" if peak.layer else ""),
        allocated=allocated, reserved=reserved, device=total, phases=phases, error=error, memory=device.memory,
        flops=seen.flops, tokens=seen.num_tokens, parameters=seen.parameters, trainable=seen.trainable,
        seconds_pass=took.passes if took else None, seconds_update=took.update if took else None, setup=setup,
        closed=_closed(seen, setup, config, PACKED.get(seen.packing, width)),
    )  # fmt: skip


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
