"""tunesmith plan: will it fit, how long, what it costs, and what to change so that it fits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tunesmith.core.result import Result

ADAPTERS = ("full", "lora", "qlora", "head")  # what --gpu tries
SHARDS = ("none", "optimizer", "gradients", "all")  # the words of train.shard for the ZeRO stages 0 to 3


def plan(
    config: str | None = None,
    *,
    gpu: str | None = None,
    fit: str | None = None,
    devices: int = 1,
    zero: int | None = None,
    tokens: float | None = None,
    price: float | None = None,
    budget: float | None = None,
    rows: int | None = None,
    distance: Literal["near", "far"] = "near",
    measure: bool = False,
    **keys: Any,
) -> Result:
    """Say before a run whether it fits, how long it takes, and what to change.

    config   a project file, or keys alone: model=Llama-3.1-8B method=sft adapter=lora length=2048
    gpu      12GB, T4, H100: every method that fits there, cheapest first
    fit      24GB, a card, or cpu:24GB for a process here: the cheapest change that makes this run fit
    devices  data-parallel processes; what they cut among them is train.shard, or zero = 0, 1, 2, 3 for none to all
    tokens   how many are trained on in all, for time; price an hour, for cost
    budget   floating-point operations: the best split into parameters and tokens when training from scratch
    rows     with gpu: how many there are, and the distance of the task from what the base knows: which method to take
    measure  time matrix products and copies on this machine first, and remember them

    Example: tunesmith plan model=Llama-3.1-8B method=sft adapter=lora length=2048 --fit 24GB
    """
    from tunesmith.core.errors import SettingError
    from tunesmith.plan import calibrate, formulas, propose, tell
    from tunesmith.plan import devices as known
    from tunesmith.plan.strategy import recommend
    from tunesmith.plan.within import within

    if devices < 1 or zero not in (None, 0, 1, 2, 3):
        raise SettingError(f"devices is {devices}, zero is {zero}.", wanted="devices 1 or more; zero 0, 1, 2 or 3.")
    if gpu is not None and fit is not None:
        raise SettingError("gpu and fit are both given.", fix="Ask one after the other.")
    if budget is not None and config is None and not keys:
        best, data = formulas.compute_optimal(budget)
        text = f"{budget:.3g} operations are best spent on {best:.3g} parameters and {data:.3g} tokens (20 tokens a parameter)."
        return Result(parameters=best, tokens=data, flops=budget, text=text)
    if measure:
        from tunesmith.plan.rates import measure as measured

        calibrate.keep_rates("cpu", measured("float32", "bfloat16"))
    wanted = gpu or fit
    planner = Planner.of(config, known.device(wanted) if wanted else None, devices=devices, stage=zero, keys=keys)
    name, method = str(planner.project.model), planner.method
    facts: dict[str, Any] = {
        "model": name,
        "method": method,
        "device": planner.device.name,
        "memory": planner.device.memory,
    }
    if gpu is not None:
        precision = "bf16" if planner.device.bf16 else "fp16"
        found = propose.methods(
            planner.setup,
            planner.look,
            unit_tokens=planner.unit_tokens,
            adapters=planner.adapters(),
            precision=precision,
        )
        found = [replace(each, forecast=planner.whole(each.setup)) for each in found]
        missed = [a for a in ADAPTERS if a not in {each.setup.adapter_name for each in found}]
        listed = [{**each.forecast.as_dict(), "slower": each.slower} for each in found]
        facts |= {"fits": listed}
        text = tell.listed(found, planner.device, missed)
        if rows is not None:
            advice = recommend(rows=rows, fits=[each.setup.adapter_name for each in found], distance=distance)
            facts |= {"recommended": advice.adapter, "reasons": list(advice.reasons)}
            text += f"\nTake {advice.adapter or 'no tuning yet'}. {' '.join(advice.reasons)}"
        return Result(facts, text=text)
    if fit is not None:
        limited = (lambda each: each) if planner.device.cuda else within
        offered = propose.into(
            planner.setup, lambda each: limited(planner.look(each)), unit_tokens=planner.unit_tokens, adapters=planner.smaller(),
            precisions=("bf16",) if planner.device.bf16 else ("fp16",),
        )  # fmt: skip
        if offered is not None:
            offered = replace(offered, forecast=limited(planner.whole(offered.setup)))
        facts |= {"changes": list(offered.changes) if offered else None}
        facts |= {"forecast": offered.forecast.as_dict()} if offered else {}
        facts |= {"notch": limited(planner.look(offered.notch)).as_dict()} if offered and offered.notch else {}
        return Result(facts, text=tell.offered(offered, planner.device))
    seen = planner.whole(planner.setup)
    text = tell.told(seen, planner.device, name=name, method=method, tokens=tokens, price=price)
    best, data = formulas.compute_optimal(budget or formulas.flops(seen.parameters, 20 * seen.parameters))
    text += f"\n   scaling  from scratch, {best:.3g} parameters want {data:.3g} tokens (20 a parameter): {6 * best * data:.3g} operations"
    return Result(facts | {"forecast": seen.as_dict()}, text=text)


def planned(parts: Any) -> str:
    """Before the first step of a run: forecast it from its own rows into plan.json, and say so in a line.

    The largest pass among the first epoch's steps is simulated, beside what this process holds already.
    """
    from tunesmith.core.runs import hardware
    from tunesmith.plan.devices import host
    from tunesmith.report.formats import size
    from tunesmith.step.ranks import ranks

    machine = host(hardware()["memory"] or 8 << 30)
    stage = SHARDS.index(parts.project.train.shard)
    planner = Planner(parts.project, parts.filled, parts.root, machine, devices=ranks(), stage=stage, parts=parts)
    seen = planner.whole(planner.setup)
    parts.folder.write_json("plan.json", {"forecast": seen.as_dict(), "rows": "the run's own"})
    verdict = "" if seen.fits else "   it may not fit: tunesmith plan --fit says what to change"
    return f"      plan  {size(seen.device)} of {size(seen.memory)}, give or take {100 * seen.error:.0f} %{verdict}"


def compared(parts: Any) -> str:
    """After a run: plan.json gets what was measured, and this machine's error bar learns from it. One line, or none."""
    from tunesmith.plan import calibrate
    from tunesmith.report.formats import size

    folder = parts.folder
    if not folder.file("plan.json").exists() or not folder.file("memory.json").exists():
        return ""
    plan, measured = folder.read_json("plan.json"), folder.read_json("memory.json")
    predicted, found = plan["forecast"]["device"], measured["process_peak"]
    plan["measured"] = {"device": found, "error": predicted / found - 1}
    folder.write_json("plan.json", plan)
    calibrate.note("cpu", predicted=predicted, measured=found, run=folder.path.name)
    return f"Memory: {size(predicted)} planned, {size(found)} measured ({100 * (predicted / found - 1):+.1f} %)."


class Planner:
    """A project on a device: forecasts of its setup and of others."""

    def __init__(
        self,
        project: Any,
        filled: Mapping[str, Any],
        root: Path,
        device: Any,
        *,
        devices: int,
        stage: int,
        parts: Any = None,
    ) -> None:
        from tunesmith.api.build import base_to_train
        from tunesmith.core.errors import SettingError
        from tunesmith.core.shelf import shelf
        from tunesmith.plan import calibrate, rates
        from tunesmith.plan.forecast import RUNTIME
        from tunesmith.plan.network import architecture
        from tunesmith.train.defaults import pass_tokens

        self.project, self.device, self.devices, self.stage, self.parts = project, device, devices, stage, parts
        self.objective = shelf("objectives").make(project.method, "method") if parts is None else parts.objective
        self.method = filled["method"] if isinstance(filled["method"], str) else next(iter(filled["method"]))
        if not hasattr(self.objective, "loss"):
            raise SettingError(
                f"the method {self.method} has no training loop, so there is no step to plan.",
                fix="Plan a method that trains, such as sft.",
            )
        if parts is None and hasattr(self.objective, "learn_labels"):  # two labels: how many moves a few kilobytes
            self.objective = self.objective.learn_labels([{"text": "a", "label": label} for label in ("a", "b")])
        name = str(project.model)
        if parts is not None:
            self.config = parts.model.net.config
        else:
            self.config = architecture(name if name in ("mini", "pico") else base_to_train(name, root))
        self.kind = "cuda" if device.cuda else "cpu"
        self.error = calibrate.error(self.kind)
        self.rates = rates.of_device(device) if device.cuda else calibrate.rates("cpu")
        self._units: dict[int, Any] = {}
        self._seen: dict[tuple[Any, ...], Any] = {}
        self.runtime = RUNTIME if parts is None else held_now() - bytes_of_weights(parts.model.net)
        train, config = project.train, self.config
        self.length = self._length(project.length)
        fitted = pass_tokens(
            int(config.hidden_size), int(config.num_hidden_layers), int(config.vocab_size), device.memory
        )
        asked = parts.chosen["pass_tokens"] if parts is not None else train.pass_tokens or fitted
        self.setup = self._setup(filled["adapter"], max(asked, self.unit_tokens(self.length)))

    @staticmethod
    def of(
        config: Any, device: Any, *, devices: int = 1, stage: int | None = None, keys: Mapping[str, Any]
    ) -> "Planner":
        """Of a project file or keys; device None = this machine."""
        from tunesmith.api.config import resolve
        from tunesmith.core.runs import hardware
        from tunesmith.plan.devices import host

        project, filled, root = resolve(config, **keys)
        if stage is None:
            stage = SHARDS.index(project.train.shard)
        return Planner(
            project, filled, root, device or host(hardware()["memory"] or 8 << 30), devices=devices, stage=stage
        )

    def _setup(self, adapter: Any, pass_tokens: int) -> Any:
        from tunesmith.plan.setup import Setup

        train = self.project.train
        return Setup(
            adapter=adapter, precision=train.precision, checkpointing=train.checkpointing, length=self.length,
            pass_tokens=pass_tokens, batch_size=max(1, train.batch_size // self.devices), optimizer=train.optimizer,
        )  # fmt: skip

    def _length(self, length: int | None) -> int:
        from tunesmith.plan.network import context

        return min(length or 2048, context(self.config))

    def adapters(self) -> list[Any]:
        """What --gpu tries: the project's own settings where it is one of them."""
        own = self.setup.adapter_name
        return [self.setup.adapter if name == own else name for name in dict.fromkeys((*ADAPTERS, own))]

    def smaller(self) -> list[Any]:
        """Adapters that need less than the project's own, in the order in which they are offered."""
        order = ["full", "lora", "qlora"]
        own = self.setup.adapter_name
        return order[order.index(own) + 1 :] if own in order else ["qlora"]

    def unit(self, length: int) -> Any:
        """One Unit with rows of that length, made by the method itself."""
        from tunesmith.plan.rows import sample_units

        if length not in self._units:
            self._units[length] = sample_units(self.objective, length=length)[0]
        return self._units[length]

    def unit_tokens(self, length: int) -> int:
        """Tokens of a Unit with rows of that length."""
        return int(self.unit(length).num_tokens)

    def simulate(self, setup: Any, config: Any) -> Any:
        """One step of a setup on fake tensors."""
        from tunesmith.plan.simulate import heaviest, simulate

        if self.parts is not None and not hasattr(self.objective, "collect"):
            units = self._own_units()
        else:
            unit = self.unit(setup.length)
            number = min(setup.batch_size, 2 * max(1, setup.pass_tokens // unit.num_tokens))
            units = [unit] * number
        largest, more = heaviest(units, setup.pass_tokens)
        return simulate(
            lambda: self._policy(setup, config), self.objective, largest, accumulated=more,
            make_optimizer=lambda net: self._optimizer(net, setup), make_helpers=self._helpers,
            pass_tokens=setup.pass_tokens, clip=self.project.train.clip, device=self.kind, around=self._around,
        )  # fmt: skip

    def _own_units(self) -> Any:
        """The Units of the step, among the first epoch's first 256, that has the largest pass."""
        from math import ceil

        from tunesmith.step.step import passes_of
        from tunesmith.train.feed import units_of_step

        parts, train = self.parts, self.project.train
        units, policy = parts.units, parts.model.policy
        most: tuple[int, Any] = (0, None)
        for number in range(min(256, ceil(len(units) / train.batch_size))):
            chosen = units_of_step(number, len(units), train.batch_size, self.project.seed, train.order == "shuffle")
            some = [units[int(i)] for i in chosen]
            passes = passes_of(policy, some, parts.chosen["pass_tokens"])
            largest = max(sum(some[i].num_tokens for i in one) for one in passes)
            if largest > most[0]:
                most = largest, some
        return most[1]

    def whole(self, setup: Any) -> Any:
        """The forecast of a setup, every layer run."""
        return self._forecast(setup, True)

    def look(self, setup: Any) -> Any:
        """The forecast of a setup, from two shallower networks where all layers are alike."""
        return self._forecast(setup, False)

    def _forecast(self, setup: Any, every_layer: bool) -> Any:
        from tunesmith.plan.forecast import forecast
        from tunesmith.plan.shorter import SHALLOW, alike, cut, deeper

        key = (str(setup), every_layer)
        if key not in self._seen:
            if every_layer or not alike(self.config):
                seen = self.simulate(setup, self.config)
            else:
                few, more = (self.simulate(setup, cut(self.config, layers)) for layers in SHALLOW)
                seen = deeper(few, more, int(self.config.num_hidden_layers))
            self._seen[key] = forecast(
                seen, setup, self.device, error=self.error, rates=self.rates, config=self.config, devices=self.devices,
                stage=self.stage, rollout_tokens=self._rollouts(setup), runtime=self.runtime,
            )  # fmt: skip
        return self._seen[key]

    def _rollouts(self, setup: Any) -> int:
        if not hasattr(self.objective, "collect"):
            return 0
        return max(64, self.project.generate.batch) * setup.length  # as many answers as api/build.py lets grow together

    def _policy(self, setup: Any, config: Any) -> Any:
        from tunesmith.core.shelf import shelf
        from tunesmith.plan.network import fake_policy

        objective, proof = self.objective, self.parts.model.proof if self.parts is not None else None
        return fake_policy(
            config, shelf("adapters").make(setup.adapter, "adapter"), kind=getattr(objective, "kind", "causal"),
            labels=getattr(objective, "labels", ()), heads=getattr(objective, "heads", ()),
            lean=not self.device.cuda if proof is None else proof.lean, layout=proof.layout if proof is not None else None,
            base=self.project.base or "",
        )  # fmt: skip

    def _around(self, net: Any) -> Any:
        """What the passes run within: activations that wait elsewhere."""
        from tunesmith.train.offload import Offload

        return Offload(self.project.train.offload, Path("unwritten"), (*net.parameters(), *net.buffers())).here()

    def _helpers(self, policy: Any) -> Any:
        from tunesmith.model.teacher import Teacher
        from tunesmith.step.helpers import Helpers, frozen

        wants = getattr(self.objective, "helpers", ())
        start = self.objective.start() if hasattr(self.objective, "start") else {}
        live = frozen(policy) if "reference" in wants and hasattr(self.objective, "collect") else None
        teacher = Teacher(frozen(policy), policy.config.vocab_size) if "teacher" in wants else None
        return Helpers(live=live, state=start, teacher=teacher)

    def _optimizer(self, net: Any, setup: Any) -> Any:
        from tunesmith.train.optim import Optimizer
        from tunesmith.train.run import LOW, checkpoint_activations, embedding_names, lower

        train = self.project.train
        held = lower(net, LOW[setup.precision]) if setup.precision in LOW else None
        checkpoint_activations(net, setup.checkpointing)
        momentum = train.momentum if setup.optimizer in ("sgd", "muon") else 0.0
        return Optimizer(
            list(net.named_parameters()), kind=setup.optimizer, momentum=momentum, betas=train.betas, eps=train.eps,
            weight_decay=train.weight_decay, l1=train.l1, l2=train.l2, embeddings=embedding_names(net), masters=held,
            keep=train.masters, states=train.states, in_backward=train.update_in_backward,
        )  # fmt: skip


def held_now() -> int:
    """Bytes this process holds: Python with what it has loaded."""
    import resource
    import sys

    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def bytes_of_weights(net: Any) -> int:
    """Bytes of a network's parameters and buffers, shared ones once."""
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (*net.parameters(), *net.buffers())}
    return sum(held.values())
