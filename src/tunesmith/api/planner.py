"""A project on a device, for the planner: what its step is made of, and forecasts of it and of what could stand in its place.

planner = Planner.of("tunesmith.yaml", device("T4"), keys={})
planner.whole(planner.setup).fits           # a Forecast, every layer run
planner.refusal(setup)                      # what `train` would refuse of a setup, before its first step; None when nothing
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from tunesmith.core.errors import ModelError, SettingError, UserError

ADAPTERS = ("full", "lora", "qlora", "head")  # what --gpu tries
SHARDS = ("none", "optimizer", "gradients", "all")  # the words of train.shard for the ZeRO stages 0 to 3


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
        from tunesmith.core.shelf import shelf
        from tunesmith.model.packed import kind_of
        from tunesmith.model.packed_files import kind_of_folder
        from tunesmith.plan import calibrate, rates
        from tunesmith.plan.forecast import RUNTIME
        from tunesmith.train.defaults import pass_tokens

        self.project, self.device, self.devices, self.stage, self.parts = project, device, devices, stage, parts
        self.root = root
        self.objective = shelf("objectives").make(project.method, "method") if parts is None else parts.objective
        self.method = filled["method"] if isinstance(filled["method"], str) else next(iter(filled["method"]))
        if not hasattr(self.objective, "loss"):
            raise SettingError(
                f"the method {self.method} has no training loop, so there is no step to plan.",
                fix="Plan a method that trains, such as sft.",
            )
        source = base_of(str(project.model), root)
        self.config = self._architecture(source) if parts is None else parts.model.net.config
        stored = kind_of_folder(Path(source)) if Path(source).is_dir() else ""
        self.packed = bool(stored)
        self.base = (project.base or stored) if parts is None else kind_of(parts.model.net)
        self.kind = "cuda" if device.cuda else "cpu"
        self.error = calibrate.error(self.kind)
        self.rates = rates.of_device(device) if device.cuda else calibrate.rates("cpu")
        self._units: dict[int, Any] = {}
        self._seen: dict[tuple[Any, ...], Any] = {}
        self._layout: str | None = None
        self.runtime = RUNTIME if parts is None else held_now() - bytes_of_weights(*_networks(parts))
        self.ahead = self._read_ahead(source) if parts is None else None
        self.length = self.ahead.length if self.ahead else self._length(project.length)
        config = self.config
        fitted = pass_tokens(
            int(config.hidden_size), int(config.num_hidden_layers), int(config.vocab_size), device.memory
        )
        least = self.unit_tokens(self.length)
        if parts is not None:
            asked = parts.chosen["pass_tokens"]
        elif project.train.pass_tokens is None and project.train.update_in_backward:
            asked = project.train.batch_size * least  # a step in one pass
        else:
            asked = project.train.pass_tokens or fitted
        self.setup = self._setup(filled["adapter"], max(asked, least))
        if parts is None and (refused := self.refusal(self.setup)):
            raise refused

    @staticmethod
    def of(
        config: Any, device: Any, *, devices: int = 1, stage: int | None = None, keys: Mapping[str, Any]
    ) -> "Planner":
        """Of a project file or keys; device None = this machine, its memory divided among the processes."""
        from tunesmith.api.config import resolve
        from tunesmith.api.device import machine, place

        project, filled, root = resolve(config, **keys)
        if stage is None:
            stage = SHARDS.index(project.train.shard)
        return Planner(
            project, filled, root, device or machine(place(project.device), devices), devices=devices, stage=stage
        )

    def _architecture(self, source: str) -> Any:
        """The configuration of the base, its context stretched as `rope` says; how its folder is packed is not transformers' to read."""
        from tunesmith.api.config import as_dict
        from tunesmith.model.rope import stretch
        from tunesmith.plan.network import architecture

        config = architecture(source)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        if self.project.rope:
            stretch(config, **as_dict(self.project.rope))
        return config

    def _read_ahead(self, source: str) -> Any:
        """What the project's rows are, where it has any; the objective learns its labels from them."""
        from tunesmith.api.ahead import read_ahead
        from tunesmith.plan.network import context

        project = self.project
        if project.data.path is None and project.data.name is None:
            if hasattr(self.objective, "learn_labels"):  # two labels: how many moves a few kilobytes
                self.objective = self.objective.learn_labels([{"text": "a", "label": label} for label in ("a", "b")])
            return None
        self._length(project.length)
        found = read_ahead(
            project, self.root, self.objective, source=source, config=self.config, context=context(self.config)
        )
        self.objective = found.objective
        return found

    def _setup(self, adapter: Any, pass_tokens: int) -> Any:
        from tunesmith.plan.setup import Setup

        train = self.project.train
        return Setup(
            adapter=adapter, precision=train.precision, checkpointing=train.checkpointing, length=self.length,
            pass_tokens=pass_tokens, batch_size=max(1, train.batch_size // self.devices), optimizer=train.optimizer,
            base=self.base, states=train.states, update_in_backward=train.update_in_backward, offload=train.offload,
            offload_states=train.offload_states,
        )  # fmt: skip

    def _length(self, length: int | None) -> int:
        """Tokens of the longest rows. Raises SettingError beyond what the model reads."""
        from tunesmith.plan.network import context

        most = context(self.config)
        if length is not None and length > most and self.parts is None:
            raise SettingError(
                f"length is {length:,}, but {self.project.model} reads {most:,} tokens.",
                wanted=f"length={most} or less.",
                fix=f"Or a longer context, where positions are rotary: rope={{kind: yarn, factor: {ceil(length / most)}}}",
            )
        return min(length or 2048, most)

    def adapters(self) -> list[Any]:
        """What --gpu tries: the project's own settings where it is one of them."""
        own = self.setup.adapter_name
        return [self.setup.adapter if name == own else name for name in dict.fromkeys((*ADAPTERS, own))]

    def smaller(self) -> list[Any]:
        """Adapters that need less than the project's own, in the order in which they are offered."""
        order = ["full", "lora", "qlora"]
        own = self.setup.adapter_name
        return order[order.index(own) + 1 :] if own in order else ["qlora"]

    def sixteen(self) -> tuple[str, ...]:
        """The 16-bit format that the device multiplies in, where weights are not cut over processes in another."""
        if self.device.bf16:
            return ("bf16",)
        return () if self.stage == 3 and self.devices > 1 else ("fp16",)

    def refusal(self, setup: Any) -> UserError | None:
        """What `train` refuses of a setup before its first step: settings that shut each other out, weights that cannot be cut."""
        from tunesmith.api.build import refuse_trained_base
        from tunesmith.core.shelf import shelf
        from tunesmith.model import embedded
        from tunesmith.step import fsdp
        from tunesmith.train.run import refuse

        try:
            replace(
                self.project.train, precision=setup.precision, states=setup.states, offload=setup.offload,
                offload_states=setup.offload_states, update_in_backward=setup.update_in_backward, shard=SHARDS[self.stage],
            )  # fmt: skip
            refuse(
                update_in_backward=setup.update_in_backward, offload=setup.offload, offload_states=setup.offload_states,
                processes=self.devices, cuda=self.device.cuda,
                kernels=self.project.train.kernels, states=setup.states, shard=SHARDS[self.stage],
            )  # fmt: skip
            refuse_trained_base(setup.base, shelf("adapters").make(setup.adapter, "adapter"), setup.adapter_name)
            if setup.base == "streamed" and str(self.project.model) in embedded.CONFIGS:
                raise ModelError(f"{self.project.model} is made on the spot: there is no file to read its base from")
            if self.devices > 1 and self.stage == 3:
                samples = hasattr(self.objective, "collect")
                self._looked_at(setup, lambda policy: fsdp.refuse(policy, samples=samples))
        except (SettingError, ModelError) as error:
            return error
        return None

    def unit(self, length: int) -> Any:
        """One Unit with rows of that length: the longest of the project's own, or one made by the method itself."""
        from tunesmith.plan.rows import sample_units

        if self.ahead is not None and length == self.length and not hasattr(self.objective, "collect"):
            return max(self.ahead.units, key=lambda unit: int(unit.num_tokens))
        if length not in self._units:
            self._units[length] = sample_units(self.objective, length=length)[0]
        return self._units[length]

    def unit_tokens(self, length: int) -> int:
        """Tokens of a Unit with rows of that length."""
        return int(self.unit(length).num_tokens)

    def simulate(self, setup: Any, config: Any) -> Any:
        """One step of a setup on fake tensors."""
        from tunesmith.plan.simulate import heaviest, simulate

        own = self.parts is not None or (self.ahead is not None and setup.length == self.length)
        if own and not hasattr(self.objective, "collect"):
            units = self._own_units(setup)
        else:
            unit = self.unit(setup.length)
            number = min(setup.batch_size, 2 * max(1, setup.pass_tokens // unit.num_tokens))
            units = [unit] * number
        largest, more = heaviest(units, setup.pass_tokens, padded=self._padded(setup))
        return simulate(
            lambda: self._policy(setup, config), self.objective, largest, accumulated=more,
            make_optimizer=lambda net: self._optimizer(net, setup), make_helpers=lambda policy: self._helpers(policy, setup),
            pass_tokens=setup.pass_tokens, clip=self.project.train.clip, device=self.kind,
            around=lambda net: self._around(net, setup), make_others=self._rewards,
        )  # fmt: skip

    def _own_units(self, setup: Any) -> Any:
        """The Units of one process in the step, among the first epoch's first 256, that has the largest pass."""
        from tunesmith.plan.simulate import tokens_of
        from tunesmith.step.step import cut, passes_of
        from tunesmith.train.feed import units_of_step

        parts, train = self.parts, self.project.train
        units: Any = parts.units if parts is not None else self.ahead and self.ahead.units
        most: tuple[int, Any] = (0, None)
        padded = self._padded(setup)
        for number in range(min(256, ceil(len(units) / train.batch_size))):
            chosen = units_of_step(number, len(units), train.batch_size, self.project.seed, train.order == "shuffle")
            some = [units[int(i)] for i in chosen[:: self.devices]]
            if parts is not None:
                passes = passes_of(parts.model.policy, some, parts.chosen["pass_tokens"])
            else:
                passes = cut(some, setup.pass_tokens, padded=padded)
            largest = max(tokens_of([some[i] for i in one], padded=padded) for one in passes)
            if largest > most[0]:
                most = largest, some
        return most[1]

    def _padded(self, setup: Any) -> bool:
        """Whether rows lie padded, not packed: by the architecture and by the adapter."""
        from tunesmith.core.shelf import shelf

        if self.parts is not None:
            return bool(self.parts.model.policy.layout == "padded")
        if getattr(shelf("adapters").make(setup.adapter, "adapter"), "padded", ""):
            return True
        if self._layout is None:
            self._layout = self._looked_at(setup, lambda policy: policy.layout)
        return bool(self._layout == "padded")

    def _looked_at(self, setup: Any, look: Callable[[Any], Any]) -> Any:
        """look(policy) of a setup's network, of few layers where all are alike."""
        from tunesmith.plan.shorter import SHALLOW, alike, cut
        from tunesmith.plan.simulate import looked_at

        shallow = cut(self.config, SHALLOW[0]) if alike(self.config) else self.config
        return looked_at(lambda: self._policy(setup, shallow), look)

    def whole(self, setup: Any) -> Any:
        """The forecast of a setup, every layer run."""
        return self._forecast(setup, True)

    def look(self, setup: Any) -> Any:
        """The forecast of a setup, from two shallower networks where all layers are alike."""
        return self._forecast(setup, False)

    def _forecast(self, setup: Any, every_layer: bool) -> Any:
        from tunesmith.core.shelf import shelf
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
                stage=self.stage, rollout_tokens=self._rollouts(setup), runtime=self.runtime, packed=self.packed,
                frozen=getattr(shelf("adapters").make(setup.adapter, "adapter"), "file", "model") == "adapter",
            )  # fmt: skip
        return self._seen[key]

    def cost(self, seen: Any, tokens: float | None, price: float | None) -> Any:
        """What the run of a forecast takes: over `tokens` tokens, or over the project's own rows."""
        from tunesmith.plan.forecast import cost_of

        if self.ahead is None or tokens is not None:
            return cost_of(seen, tokens=tokens, price=price, devices=self.devices)
        mean = self.ahead.step_tokens(self.project.train.batch_size)
        found = cost_of(seen, tokens=None, devices=self.devices, step_tokens=mean and mean / self.devices)
        each = mean / found.rate if mean and found.rate else None
        steps = self.ahead.steps(self.project.train, each)
        total = None if steps is None or not self.ahead.tokens else self.ahead.tokens * steps / self.ahead.per_epoch
        found = cost_of(seen, tokens=total, price=price, devices=self.devices, step_tokens=mean and mean / self.devices)
        return replace(found, steps=steps)

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
            base=setup.base,
        )  # fmt: skip

    def _around(self, net: Any, setup: Any) -> Any:
        """What the passes run within: activations that wait elsewhere."""
        from tunesmith.train.offload import Offload

        return Offload(setup.offload, Path("unwritten"), (*net.parameters(), *net.buffers())).here()

    def _helpers(self, policy: Any, setup: Any) -> Any:
        from tunesmith.step.helpers import Helpers, frozen
        from tunesmith.train.run import LOW

        wants = getattr(self.objective, "helpers", ())
        start = self.objective.start() if hasattr(self.objective, "start") else {}
        low = LOW.get(setup.precision)
        live = frozen(policy, low) if "reference" in wants and hasattr(self.objective, "collect") else None
        return Helpers(live=live, state=start, teacher=self._teacher() if "teacher" in wants else None)

    def _teacher(self) -> Any:
        """The teacher's own network, in fp32 as a run opens it."""
        import copy

        from tunesmith.model.teacher import Teacher
        from tunesmith.plan.network import architecture, fake_policy

        if self.parts is not None:
            config = copy.deepcopy(self.parts.helpers.teacher.net.config)
        else:
            config = architecture(base_of(str(self.objective.teacher), self.root))
        policy = fake_policy(config, lean=not self.device.cuda)
        policy.net.requires_grad_(False).eval()
        return Teacher(policy, min(int(config.vocab_size), int(self.config.vocab_size)), str(self.objective.teacher))

    def _rewards(self) -> Sequence[Any]:
        """The networks of reward models, of what is paid and of what is only watched; a run that is made holds its own already."""
        from tunesmith.api.rewards import models_of
        from tunesmith.plan.network import architecture, fake_network

        if self.parts is not None or not hasattr(self.objective, "collect"):
            return ()
        specs = [getattr(self.objective, name, None) for name in ("reward", "hidden")]
        names = [name for spec in specs if spec is not None for name in models_of(spec)]
        return [fake_network(architecture(base_of(name, self.root)), "classify", ("score",)) for name in names]

    def _optimizer(self, net: Any, setup: Any) -> Any:
        from tunesmith.train.optim import Optimizer
        from tunesmith.train.pages import Pages
        from tunesmith.train.recompute import checkpoint_activations
        from tunesmith.train.run import LOW, embedding_names, lower

        train = self.project.train
        held = lower(net, LOW[setup.precision]) if setup.precision in LOW else None
        checkpoint_activations(net, setup.checkpointing)
        momentum = train.momentum if setup.optimizer in ("sgd", "muon") else 0.0
        return Optimizer(
            list(net.named_parameters()), kind=setup.optimizer, momentum=momentum, betas=train.betas, eps=train.eps,
            weight_decay=train.weight_decay, l1=train.l1, l2=train.l2, embeddings=embedding_names(net), masters=held,
            keep=train.masters, states=setup.states, in_backward=setup.update_in_backward,
            pages=Pages(setup.offload_states, Path("unwritten")),
        )  # fmt: skip


def base_of(name: str, root: Path) -> str:
    """The model whose architecture a name has: an embedded one, a folder, a name; of a run with an adapter what that stands on."""
    from tunesmith.api.build import base_to_train, resolve_model
    from tunesmith.core.registry import named
    from tunesmith.model import embedded

    if name in embedded.CONFIGS or name in embedded.NAMES:
        return name
    name = str(named(name))
    found = Path(resolve_model(name, root))
    config = found / "adapter" / "adapter_config.json"
    if config.is_file() and not any((found / part / "config.json").is_file() for part in ("model", "merged")):
        return str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    return base_to_train(name, root)


def held_now() -> int:
    """Bytes this process holds: Python with what it has loaded."""
    import resource
    import sys

    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def bytes_of_weights(*nets: Any) -> int:
    """Bytes of the parameters and buffers of networks, shared ones once."""
    tensors = [t for net in nets for t in (*net.parameters(), *net.buffers())]
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(held.values())


def _networks(parts: Any) -> list[Any]:
    """The networks that a run holds and that its plan counts by themselves."""
    helpers = [getattr(parts.helpers, name, None) for name in ("live", "teacher")]
    return [parts.model.net, *(helper.net for helper in helpers if helper is not None)]
