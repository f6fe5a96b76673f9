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

SHARDS = ("none", "optimizer", "gradients", "all")  # the words of train.shard for the ZeRO stages 0 to 3
ANSWER = 64  # tokens of an answer that api/train.py samples to be read along


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
        self.pace = calibrate.pace(device.name)
        self._units: dict[int, Any] = {}
        self._seen: dict[tuple[Any, ...], Any] = {}
        self._refused: dict[tuple[str, str], UserError | None] = {}
        self._layout: str | None = None
        self._lean: bool | None = None
        self._parameters: int | None = None
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

        project = self.project
        if project.data.path is None and project.data.name is None:
            if hasattr(self.objective, "learn_labels"):  # two labels: how many moves a few kilobytes
                self.objective = self.objective.learn_labels([{"text": "a", "label": label} for label in ("a", "b")])
            return None
        self._length(project.length)
        found = read_ahead(
            project, self.root, self.objective, source=source, config=self.config, context=self._context()
        )
        self.objective = found.objective
        samples = hasattr(self.objective, "collect")
        return found if samples or "reference" not in getattr(self.objective, "helpers", ()) else _with_reference(found)

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
        most = self._context()
        if length is not None and length > most and self.parts is None:
            raise SettingError(
                f"length is {length:,}, but {self.project.model} reads {most:,} tokens.",
                wanted=f"length={most} or less.",
                fix=f"Or a longer context, where positions are rotary: rope={{kind: yarn, factor: {ceil(length / most)}}}",
            )
        return min(length or 2048, most)

    def adapters(self) -> list[Any]:
        """What --gpu tries: every adapter of the shelf as it comes, the project's own with its settings."""
        from tunesmith.core.shelf import shelf

        own = self.setup.adapter_name
        return [self.setup.adapter if name == own else name for name in shelf("adapters").names()]

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
        except (SettingError, ModelError) as error:
            return error
        key = (str(setup.adapter), setup.base)
        if key not in self._refused:
            self._refused[key] = self._refused_network(setup)
        return self._refused[key]

    def _refused_network(self, setup: Any) -> UserError | None:
        """What is refused once the adapter stands on the network: it does not fit there, nothing trains, the weights cannot be cut."""
        from tunesmith.step import fsdp

        def look(policy: Any) -> None:
            if not any(p.requires_grad for p in policy.net.parameters()):
                raise SettingError(
                    f"adapter is {setup.adapter_name}, under which no weight of {self.project.model} trains"
                )
            if self.devices > 1 and self.stage == 3:
                fsdp.refuse(policy, samples=hasattr(self.objective, "collect"))

        try:
            self._looked_at(setup, look)
        except (SettingError, ModelError) as error:
            return error
        return None

    def too_large(self, setup: Any) -> bool:
        """Whether the weights of the base alone are more than the device has: then no step has to be run to see that nothing fits."""
        from tunesmith.core.shelf import shelf
        from tunesmith.plan.simulate import looked_at

        base = setup.base or getattr(shelf("adapters").make(setup.adapter, "adapter"), "base", "")
        if base or (self.devices > 1 and self.stage == 3):
            return False
        if self._parameters is None:
            bare = replace(setup, adapter="full", base="")
            self._parameters = looked_at(
                lambda: self._policy(bare, self.config), lambda policy: sum(p.numel() for p in policy.net.parameters())
            )
        return self._parameters * (4 if setup.precision == "fp32" else 2) > self.device.memory

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
        """One step of a setup on fake tensors, and what comes after it."""
        from tunesmith.plan.simulate import simulate

        largest, more = self._largest(setup)
        return simulate(
            lambda: self._policy(setup, config), self.objective, largest, accumulated=more,
            make_optimizer=lambda net: self._optimizer(net, setup), make_helpers=lambda policy: self._helpers(policy, setup),
            pass_tokens=setup.pass_tokens, clip=self.project.train.clip, device=self.kind,
            around=lambda net: self._around(net, setup), make_others=self._rewards, evaluated=self._evaluated(setup),
        )  # fmt: skip

    def _largest(self, setup: Any) -> tuple[list[Any], bool]:
        """(the Units of the largest pass of a step, whether it is one of several)."""
        from tunesmith.plan.simulate import heaviest

        own = self.parts is not None or (self.ahead is not None and setup.length == self.length)
        if own and not hasattr(self.objective, "collect"):
            units = self._own_units(setup)
        else:
            unit = self.unit(setup.length)
            number = min(setup.batch_size, 2 * max(1, setup.pass_tokens // unit.num_tokens))
            units = [unit] * number
        return heaviest(units, setup.pass_tokens, padded=self._padded(setup))

    def _evaluates(self) -> bool:
        """Whether rows are held out to evaluate on."""
        return bool(len(self.parts.dev)) if self.parts is not None else self.project.data.dev != 0

    def _evaluated(self, setup: Any) -> list[Any]:
        """The Units of an evaluation's largest pass, among its first 256 batches; [] where there is none, or where answers are scored.

        Before a run its training rows stand for those that will be held out: they are drawn from the same.
        """
        from tunesmith.plan.simulate import heaviest, tokens_of

        if not self._evaluates() or hasattr(self.objective, "collect"):
            return []
        rows, padded = self.project.train.eval_batch, self._padded(setup)
        if self.parts is not None:
            units = self.parts.dev
        else:
            units = self.ahead.units if self.ahead and setup.length == self.length else [self.unit(setup.length)] * rows
        passes = [
            heaviest([units[i] for i in range(start, min(start + rows, len(units)))], setup.pass_tokens, padded=padded)[
                0
            ]
            for start in range(0, min(256 * rows, len(units)), rows)
        ]
        return max(passes, key=lambda some: tokens_of(some, padded=padded))

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
        """look(policy) of a setup's network: of few layers where all are alike, unless that is refused, as an adapter that names others."""
        from tunesmith.plan.shorter import SHALLOW, alike, cut
        from tunesmith.plan.simulate import looked_at

        if alike(self.config):
            try:
                return looked_at(lambda: self._policy(setup, cut(self.config, SHALLOW[0])), look)
            except (SettingError, ModelError):
                pass
        return looked_at(lambda: self._policy(setup, self.config), look)

    def whole(self, setup: Any) -> Any:
        """The forecast of a setup, every layer run."""
        return self._forecast(setup, True)

    def look(self, setup: Any) -> Any:
        """The forecast of a setup, from two shallower networks where all layers are alike."""
        return self._forecast(setup, False)

    def _forecast(self, setup: Any, every_layer: bool) -> Any:
        from tunesmith.core.shelf import shelf
        from tunesmith.plan.forecast import forecast
        from tunesmith.plan.shorter import alike

        every_layer = every_layer or not alike(self.config)
        key = (str(setup), every_layer)
        if key not in self._seen:
            seen = self.simulate(setup, self.config) if every_layer else self._from_shallow(setup)
            self._seen[key] = forecast(
                seen, setup, self.device, error=self.error, rates=self.rates, pace=self.pace, config=self.config,
                devices=self.devices, stage=self.stage, kept_tokens=self._kept_tokens(setup), runtime=self.runtime, packed=self.packed,
                frozen=getattr(shelf("adapters").make(setup.adapter, "adapter"), "file", "model") == "adapter",
            )  # fmt: skip
        return self._seen[key]

    def _from_shallow(self, setup: Any) -> Any:
        """The simulation of a setup from two shallower networks; from the whole one where an adapter names layers that those lack."""
        from tunesmith.plan.shorter import SHALLOW, cut, deeper

        try:
            few, more = (self.simulate(setup, cut(self.config, layers)) for layers in SHALLOW)
        except (SettingError, ModelError):
            return self.simulate(setup, self.config)
        return deeper(few, more, int(self.config.num_hidden_layers))

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

    def measure(self) -> dict[str, Any]:
        """Time matrix products and copies of this machine's processor, then a real step of the project on the device at hand, and plan
        with what was found from now on: {predicted, measured: seconds of the step, by the rates alone and by the clock}, or {untimed: why}.

        Weights are drawn anew: how long a step takes does not hang on them.
        """
        import torch

        from tunesmith.plan import calibrate, rates

        if self.project.train.threads:
            torch.set_num_threads(self.project.train.threads)
        if self.kind == "cpu":
            self.rates = rates.measure("float32", "bfloat16")
            calibrate.keep_rates("cpu", self.rates)
            self._seen.clear()
        seen = self.whole(self.setup)
        if why := self._untimed(seen):
            return {"untimed": why}
        predicted = (seen.seconds_pass + seen.seconds_update) / seen.pace
        took = rates.step_seconds(self._real_step(), ready=self._ready)
        calibrate.note_step(self.device.name, predicted=predicted, measured=took, model=str(self.project.model))
        self.pace = took / predicted
        self._seen.clear()
        self._seen[str(self.setup), True] = seen.paced(self.pace)
        return {"predicted": predicted, "measured": took}

    def _untimed(self, seen: Any) -> str:
        """Why no step of the setup is timed here; "" where one is."""
        setup = self.setup
        if not seen.fits:
            return "it may not fit here"
        if seen.seconds_pass is None:
            return f"no speed of {self.device.name} is known to set it beside"
        if setup.base == "streamed" or {setup.offload, setup.offload_states} != {"none"}:
            return "it waits for the disk or for the host's memory, of which plans know no speed"
        return ""

    def _real_step(self) -> Callable[[], object]:
        """What makes a step of the setup's largest pass: real tensors, on the device of the project."""
        from tunesmith.api.device import place
        from tunesmith.step.step import backward
        from tunesmith.train.run import LOW

        setup, here = self.setup, place(self.project.device) if self.device.cuda else "cpu"
        policy = self._policy(setup, self.config, drawn=True)
        net, low = policy.net.train(), LOW.get(setup.precision)
        for parameter in net.parameters() if low is not None else ():
            if not parameter.requires_grad and parameter.is_floating_point():  # a card never holds it in fp32
                parameter.data = parameter.data.to(low)
        net.to(here)
        helpers, optimizer = self._helpers(policy, setup, drawn=True), self._optimizer(net, setup)
        if helpers.teacher is not None:
            helpers.teacher.net.to(here)
        units, _ = self._largest(setup)

        def step() -> None:
            optimizer.begin(1e-6)
            backward(policy, self.objective, units, pass_tokens=setup.pass_tokens, helpers=helpers)
            optimizer.step(lr=1e-6, clip=self.project.train.clip)

        return step

    def _ready(self) -> None:
        """Wait until the device has computed what it was asked for."""
        if self.device.cuda:
            import torch

            torch.cuda.synchronize()

    def _kept_tokens(self, setup: Any) -> dict[str, int]:
        """{phase: tokens whose keys and values are held together at its highest moment}: of the answers that a method samples, or of those
        that are sampled at an evaluation to be read along."""
        from tunesmith.plan.formulas import cache_columns

        train, rows = (
            self.project.train,
            max(64, self.project.generate.batch),
        )  # as api/build.py lets answers grow together
        if getattr(self.objective, "kind", "causal") != "causal":
            return {}
        if hasattr(self.objective, "collect"):
            asked = ceil((self.objective.collect_size or train.batch_size) / self.devices) * getattr(
                self.objective, "n", 1
            )
            name, longest, answer, refilled = "rollouts", setup.length, self.objective.max_tokens, asked > rows
            rows = rows if self._evaluates() else min(rows, asked)
        elif train.sample and self._evaluates():
            name, rows, answer, refilled = "answers", train.sample, ANSWER, False
            longest = min(setup.length + answer, self._context())
        else:
            return {}
        if self._lean_decoder(longest):
            return {name: rows * cache_columns(longest - answer, longest, refilled=refilled)}
        return {
            name: rows * (longest + ceil(longest / int(self.config.num_hidden_layers)))
        }  # a layer at a time is copied

    def _lean_decoder(self, longest: int) -> bool:
        """Whether answers come from the decoder that copies its cache as it grows (model/decode_lean.py)."""
        from tunesmith.model.decode_lean import why_not

        if self._lean is None:
            bare = replace(self.setup, adapter="full", base="")
            self._lean = not self._looked_at(bare, lambda policy: why_not(policy.net, longest=longest))
        return self._lean

    def _context(self) -> int:
        """Tokens that the model reads."""
        from tunesmith.plan.network import context

        return context(self.config)

    def _policy(self, setup: Any, config: Any, *, drawn: bool = False) -> Any:
        """The door to a setup's network. drawn: with weights, outside of fake tensors."""
        from tunesmith.core.shelf import shelf
        from tunesmith.plan.network import fake_policy

        objective, proof = self.objective, self.parts.model.proof if self.parts is not None else None
        return fake_policy(
            config, shelf("adapters").make(setup.adapter, "adapter"), kind=getattr(objective, "kind", "causal"),
            labels=getattr(objective, "labels", ()), heads=getattr(objective, "heads", ()),
            lean=not self.device.cuda if proof is None else proof.lean, layout=proof.layout if proof is not None else None,
            base=setup.base, added=len(self.project.add_tokens), drawn=drawn,
        )  # fmt: skip

    def _around(self, net: Any, setup: Any) -> Any:
        """What the passes run within: activations that wait elsewhere."""
        from tunesmith.train.offload import Offload

        return Offload(setup.offload, Path("unwritten"), (*net.parameters(), *net.buffers())).here()

    def _helpers(self, policy: Any, setup: Any, *, drawn: bool = False) -> Any:
        from tunesmith.step.helpers import Helpers, frozen
        from tunesmith.train.run import LOW

        wants = getattr(self.objective, "helpers", ())
        start = self.objective.start() if hasattr(self.objective, "start") else {}
        low = LOW.get(setup.precision)
        live = frozen(policy, low) if "reference" in wants and hasattr(self.objective, "collect") else None
        return Helpers(live=live, state=start, teacher=self._teacher(drawn) if "teacher" in wants else None)

    def _teacher(self, drawn: bool) -> Any:
        """The teacher's own network, in fp32 as a run opens it."""
        import copy

        from tunesmith.model.teacher import Teacher
        from tunesmith.plan.network import architecture, fake_policy

        if self.parts is not None:
            config = copy.deepcopy(self.parts.helpers.teacher.net.config)
        else:
            config = architecture(base_of(str(self.objective.teacher), self.root))
        policy = fake_policy(config, lean=not self.device.cuda, drawn=drawn)
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


def _with_reference(ahead: Any) -> Any:
    """The rows with a column `reference`, of zeros: a run makes it before its first step, and what is in it moves no byte."""
    import numpy as np

    def column(example: Any) -> Any:
        return replace(example, columns={**example.columns, "reference": np.zeros(len(example), dtype=np.float32)})

    return replace(ahead, units=[replace(unit, examples=tuple(map(column, unit.examples))) for unit in ahead.units])


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
