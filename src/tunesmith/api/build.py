"""tunesmith.build: the parts of a project as objects, for a loop of your own (Python only).

parts = tunesmith.build({"data": "faq.json", "model": "mini"})
for step in parts.steps(): print(step.loss)
"""

import copy
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tunesmith.api.config import IN_MEMORY, Project, as_dict, resolve
from tunesmith.core.errors import DataError, ModelError, ProjectError, SettingError, UserError
from tunesmith.core.files import hash_json, hash_sampled
from tunesmith.core.runs import RunFolder
from tunesmith.core.shared import STORE, forget, share


@dataclass(eq=False)
class Parts:
    """Everything a project file means. `chosen` are the values nobody gave, with the reason for each; `device` is what computes."""

    project: Project
    filled: dict[str, Any]
    root: Path
    folder: RunFolder
    prepared: Any
    model: Any
    text: Any
    objective: Any
    adapter: Any
    targets: list[str]
    units: Any
    dev: Any
    helpers: Any = None
    feed: Any = None
    chosen: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def steps(self) -> Iterator[Any]:
        """The bare loop, without checkpoints or evaluation: one Step after each update."""
        from tunesmith.train.loop import loop
        from tunesmith.train.optim import Optimizer
        from tunesmith.train.pages import Pages
        from tunesmith.train.recompute import checkpoint_activations
        from tunesmith.train.run import embedding_names

        settings = self.fit_settings()
        if settings["precision"] != "fp32":
            raise SettingError("steps() computes in fp32.", fix="Leave train.precision out, or use tunesmith.train.")
        checkpoint_activations(self.model.net, settings["checkpointing"])
        shared = ("lr", "momentum", "betas", "eps", "weight_decay", "l1", "l2")
        optimizer = Optimizer(
            list(self.model.net.named_parameters()), kind=settings["optimizer"], embeddings=embedding_names(self.model.net),
            states=settings["states"], in_backward=settings["update_in_backward"],
            pages=Pages(settings["offload_states"], self.folder.file("states.scratch")),
            **{name: settings[name] for name in shared},
        )  # fmt: skip
        names = ("steps", "batch_size", "lr", "seed", "pass_tokens", "schedule", "warmup", "min_lr", "clip", "shuffle")
        given = {name: settings[name] for name in names}
        return loop(
            self.model.policy, self.objective, self.feed or self.units, optimizer, helpers=self.helpers, **given
        )

    def fit_settings(self) -> dict[str, Any]:
        """The keywords of train.run.fit that this project means."""
        train = self.project.train
        momentum = train.momentum if train.optimizer in ("sgd", "muon") else 0.0
        return {
            "steps": self.chosen["steps"], "batch_size": train.batch_size, "lr": self.chosen["lr"], "seed": self.project.seed,
            "pass_tokens": self.chosen["pass_tokens"], "optimizer": train.optimizer, "momentum": momentum,
            "betas": train.betas, "eps": train.eps, "weight_decay": train.weight_decay, "l1": train.l1, "l2": train.l2,
            "schedule": train.schedule, "warmup": train.warmup, "min_lr": train.min_lr, "clip": train.clip,
            "precision": train.precision, "masters": train.masters, "states": train.states,
            "update_in_backward": train.update_in_backward, "offload": train.offload, "offload_states": train.offload_states, "kernels": train.kernels,
            "shard": train.shard, "checkpointing": train.checkpointing,
            "eval_every": train.eval_every if train.eval_every is not None else self.chosen["steps"],
            "eval_batch": train.eval_batch, "early_stopping": train.early_stopping, "keep": train.keep, "save_every": train.save_every,
            "shuffle": train.order == "shuffle", "pause_file": Path(train.pause_file) if train.pause_file else None,
        }  # fmt: skip


def build(config: Any = None, *, out: str | Path | None = None, **keys: Any) -> Parts:
    """Resolve a project and make its parts: rows prepared and tokenised, model loaded, adapter attached.

    config  a project file, its folder or a dict, as for every verb; out is the folder the parts' files go to
    """
    from tunesmith.core.files import free_path

    project, filled, root = resolve(config, **keys)
    with new_run(Path(out or project.out or free_path("runs", "train")), project=filled, verb="build") as folder:
        return assemble(project, filled, root, folder)


@contextmanager
def new_run(path: Path, **facts: Any) -> Iterator[RunFolder]:
    """A run folder that goes away again, with the folders made for it, when a user's mistake ends the block before the first event or answer."""
    taken = [name for name in ("data", "checkpoints", "model", "adapter") if (path / name).exists()]
    if taken and not (path / "manifest.json").exists():
        raise ProjectError(
            f"{path} holds {', '.join(taken)}, which the run would write over.",
            fix="Choose another folder, a new one: out=...",
        )
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    before = set(path.iterdir()) if path.is_dir() else set()
    run = None
    try:
        run = RunFolder.create(path, **facts)
        yield run
    except UserError:
        if run is not None and not run.file("events.jsonl").exists() and not run.file("evals").exists():
            for entry in set(path.iterdir()) - before:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            forget(path.parent / STORE)
            for folder in made:
                folder.rmdir()
        raise


def assemble(
    project: Project,
    filled: dict[str, Any],
    root: Path,
    folder: RunFolder,
    *,
    ready: Callable[[], object] | None = None,
) -> Parts:
    """The parts of a resolved project in a run folder that exists.

    ready  called when all files lie there, before steps are timed: what several processes make together comes after it
    """
    import torch

    from tunesmith.adapters._rows import refuse_untrained, train_rows
    from tunesmith.adapters.store import attach
    from tunesmith.api.device import take
    from tunesmith.api.fit import refuse_changes
    from tunesmith.api.rewards import step_helpers
    from tunesmith.core.shelf import shelf
    from tunesmith.data.prepare import prepare
    from tunesmith.model.load import load
    from tunesmith.model.tokens import add_tokens
    from tunesmith.model.value_head import add_value_head
    from tunesmith.objectives._contract import network
    from tunesmith.text.encode import Text
    from tunesmith.train.out_of_memory import during

    device = take(project.device)
    if project.train.threads:
        torch.set_num_threads(project.train.threads)
    data = project.data
    if data.path is None and data.name is None:
        raise DataError(
            "no data is given to train on",
            fix="Say where it is: data: questions.jsonl in the project file, or data=questions.jsonl on the command line.",
        )
    objective = shelf("objectives").make(project.method, "method")
    if hasattr(objective, "fit"):
        refuse_changes(project, filled)
    check_read(objective, project)
    settings = data_settings(data) | {
        "before": folder.manifest().get("data_hashes"),
        "helpers": step_helpers(root, device),
    }
    if data.path == IN_MEMORY:
        prepared = kept_rows(folder)
    else:
        prepared = prepare(
            folder.path, seed=data.seed, root=root, kinds=getattr(objective, "shape", "chat"), **settings
        )
    check_shape(objective, prepared, project)
    adapter = shelf("adapters").make(project.adapter, "adapter")
    refuse_trained_base(project.base or "", adapter, next(iter(filled["adapter"])))
    if hasattr(objective, "learn_labels"):
        objective = objective.learn_labels(prepared.train)
    source = base_to_train(project.model, root, folder)
    base = packed_as(project.base or "", adapter, source, device)
    with during("loading of the model"):
        model = load(
            source,
            dtype=read_as(project.train.precision, adapter, device, base=base, fits=hasattr(objective, "fit")),
            device=device,
            seed=project.seed,
            **network(objective, prepared.train),
            **({"rope": as_dict(project.rope)} if project.rope else {}),
            base=base,
        )
    same_base(folder, model)
    if model.labels and hasattr(objective, "learn_labels"):
        objective = replace(objective, labels=model.labels)  # a classifier that knows these labels keeps its own order
    if "value" in getattr(objective, "heads", ()):
        add_value_head(model)
    added = add_tokens(model, project.add_tokens)
    names = attach(adapter, model, seed=project.seed)
    train_rows(model.net, added)
    for parameter in (p for p in model.net.parameters() if p.requires_grad):
        parameter.data = parameter.data.float()  # whatever the frozen base was read as
    virtual = getattr(
        adapter, "virtual", 0
    )  # places a soft prompt takes; the model's context has them left out already
    length = min((project.length or model.context + virtual) - virtual, model.context)
    raw = prepared.kind == "text"
    text = Text(
        model.tokenizer,
        length=length,
        too_long=project.too_long or ("split" if raw else "error"),
        reasoning=project.reasoning,
    )
    units, dev = (
        tokenise(folder, part, rows, objective, text, project, filled)
        for part, rows in (("train", prepared.train), ("dev", prepared.dev))
    )
    if not len(units):
        reasons = Counter(
            ": ".join(filter(None, (d["reason"], d["detail"])))
            for d in folder.journal("data/dropped.jsonl")
            if d["by"] == "tokenise"
        )
        raise DataError(
            "no training example is left after tokenising",
            wanted="Dropped: " + ", ".join(f"{reason} ({number:,} rows)" for reason, number in reasons.most_common()),
            fix="Look at what is trained on: tunesmith data --show. A larger length or too_long=split keeps long rows.",
        )
    refuse_untrained(model, units.used_ids)
    if folder.writes:
        share(large_files(folder), folder.path.parent / STORE)
    parts = Parts(
        project, filled, root, folder, prepared, model, text, objective, adapter, names, units, dev, device=device
    )  # fmt: skip
    add_helpers(parts)
    check_stopping(parts)
    if ready is not None:
        ready()
    parts.chosen = choose(parts)
    return parts


def refuse_trained_base(base: str, adapter: Any, name: str) -> None:
    """Refuse an adapter that trains the base where the base is frozen: packed, or read from its file."""
    if base and adapter.file == "model":
        raise SettingError(
            f"base is {base}, but adapter is {name}, which trains the base itself.",
            wanted="A base that is packed or streamed is frozen: an adapter beside it learns.",
            fix="adapter=lora, or leave base out.",
        )


def packed_as(base: str, adapter: Any, source: str, device: str) -> str:
    """What a base is put into as it is loaded: what the project says, or, on a card, what the adapter would put it into afterwards, when
    the card would have held it whole."""
    from tunesmith.model.packed_files import kind_of_folder

    if base or device == "cpu" or kind_of_folder(Path(source)):
        return base
    return str(getattr(adapter, "base", ""))


def read_as(precision: str, adapter: Any, device: str, *, base: str = "", fits: bool = False) -> str:
    """The format a base is read in. A card gets a frozen one as it trains: in fp32 it would hold twice the bytes until the first step.

    base  what it is packed into on its way: from fp32, as everybody who opens the result packs it
    fits  vectors are read off it once and nothing trains: fp32, as those who use the result read it
    """
    frozen = getattr(adapter, "file", "model") == "adapter" and not (base or fits)
    return precision if frozen and precision in ("bf16", "fp16") and device != "cpu" else "fp32"


def add_helpers(parts: Parts) -> None:
    """Reference, sampler, reward: what the objective says it needs, from the model as it is before the first step."""
    from tunesmith.step.helpers import Helpers, frozen
    from tunesmith.step.ranks import rank, ranks
    from tunesmith.train.out_of_memory import during
    from tunesmith.train.run import LOW

    objective, model, project = parts.objective, parts.model, parts.project
    wants = getattr(objective, "helpers", ())
    helpers = parts.helpers = Helpers(state=objective.start() if hasattr(objective, "start") else {})
    samples = hasattr(objective, "collect")
    if "teacher" in wants:
        with during("loading of the teacher"):
            helpers.teacher = teacher(objective, model, parts.root, parts.device)
    if "reference" in wants and samples:
        with during("reference"):
            helpers.live = frozen(model.policy, LOW.get(project.train.precision))
    elif "reference" in wants:
        with during("reference"):
            parts.units, parts.dev = (reference_columns(parts, name) for name in ("units", "dev"))
    if not samples:
        return
    from tunesmith.api.rewards import reward_of, sampler
    from tunesmith.train.feed import Rollouts

    with during("loading of the reward"):
        reward = reward_of(objective.reward, parts.root, parts.device) if "reward" in wants else None
        if getattr(objective, "hidden", None) is not None:
            helpers.hidden = reward_of(objective.hidden, parts.root, parts.device)
    helpers.judges = tuple(net for paid in (reward, helpers.hidden) for net in getattr(paid, "networks", ()))
    answer = sampler(
        model, parts.text, max_tokens=objective.max_tokens, temperature=objective.temperature,
        batch=max(64, project.generate.batch),
    )  # fmt: skip
    parts.feed = Rollouts(
        parts.units, collect=lambda prompts, sample: objective.collect(model.policy, prompts, sample, reward, helpers),
        answer=answer, batch_size=project.train.batch_size, collect_size=objective.collect_size, reuse=objective.reuse,
        seed=project.seed, shuffle=project.train.order == "shuffle", rank=rank(), ranks=ranks(), reward=reward,
    )  # fmt: skip


def reference_columns(parts: Parts, name: str) -> Any:
    """A split's Units with log p of the starting state as it computes while it trains, in a cache keyed by weights, format and ids."""
    from tunesmith.data.cache import UnitCache
    from tunesmith.step.helpers import with_reference
    from tunesmith.train.run import in_precision

    units = getattr(parts, name)
    if units is None or not len(units):
        return units
    place = units.path.with_name(f"{units.path.name}-reference")
    net, train = parts.model.net, parts.project.train
    key = hash_json([units.meta["key"], hash_weights(net), train.precision])
    if (known := UnitCache.open(place, key)) is not None:
        return known
    with in_precision(net, train.precision):
        made = with_reference(parts.model.policy, units, pass_tokens=train.pass_tokens or 8192)
        return UnitCache.write(place, made, key=key)


def hash_weights(net: Any) -> str:
    """blake2b over all parameters' bytes: equal hashes are equal models."""
    import hashlib

    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def teacher(objective: Any, model: Any, root: Path, device: str) -> Any:
    """The model that an objective learns from, frozen; it must speak with the same tokens."""
    from tunesmith.adapters.store import open_run
    from tunesmith.model.teacher import Teacher

    return Teacher.of(open_run(resolve_model(str(objective.teacher), root), device=device), model.tokenizer)


def resolve_model(name: str, root: Path) -> str:
    """A model's folder beside the project file, or the name as it is."""
    beside = root / name
    return str(beside) if beside.is_dir() and not Path(name).is_absolute() else name


def base_to_train(name: str, root: Path, folder: RunFolder | None = None) -> str:
    """As `resolve_model`, and for a run its whole model. A run with an adapter is merged into `folder`/base, once."""
    found = Path(resolve_model(name, root))
    if not (found / "manifest.json").is_file():
        return str(found) if found.is_dir() else name
    for part in ("model", "merged"):
        if (found / part / "config.json").is_file():
            return str(found / part)
    if (found / "adapter").is_dir():
        if folder is None:
            raise ModelError(f"{name} is a run with an adapter.", fix=f"Merge it: tunesmith merge {name}")
        from tunesmith.api.merge import write_merged

        where = folder.path / "base"
        if not (where / "config.json").is_file():
            difference = write_merged(found, where)
            folder.update_manifest(base={"run": str(found), "merged": str(where), "difference": difference})
        return str(where)
    raise ModelError(f"{name} is a run without a finished model.", fix=f"Finish it: tunesmith train --resume {name}")


def run_facts(project: Project, root: Path, path: Path, parent: str | None = None) -> dict[str, Any]:
    """What the manifest of a training run in `path` says of where it comes from."""
    parent = parent or run_of(project.model, root)
    return {"verb": "train", "parent": parent, "root": str(root.resolve()), "name": path.name}


def run_of(name: str, root: Path) -> str | None:
    """The run folder that a project's `model` names, if it names one: the parent of what is trained on it."""
    found = Path(resolve_model(name, root))
    return str(found) if (found / "manifest.json").is_file() else None


def kept_rows(folder: RunFolder) -> Any:
    """The prepared rows of a run whose data were handed over in Python: its own, or its parent's for a rerun."""
    from tunesmith.data.prepare import reopen

    parent = folder.manifest().get("parent")
    if not folder.file("data/card.json").exists() and parent and reopen(parent):
        shutil.copytree(Path(parent) / "data", folder.file("data"), ignore=shutil.ignore_patterns("cache"))
    prepared = reopen(folder.path)
    if prepared is None:
        raise DataError(
            f"the rows of {folder.path} were handed over in Python, and data/ no longer holds them as they were",
            fix="Hand them over again: tunesmith.train(data=rows)",
        )
    folder.update_manifest(data_hashes=dict(prepared.hashes))
    return prepared


def data_settings(data: Any) -> dict[str, Any]:
    """The section `data` as the keywords that data.prepare takes, besides the seed."""
    return {field.name: getattr(data, field.name) for field in fields(data) if field.name != "seed"}


def same_base(folder: RunFolder, model: Any) -> None:
    """Note what the weights are that a run starts from, those that are read from files; a run that goes on over others is refused."""
    files = sorted(model.source.glob("*.safetensors")) if model.source else []
    found = {file.name: hash_sampled(file) for file in files}
    known = folder.manifest().get("base_weights")
    if known is None:
        folder.update_manifest(base_weights=found)
    elif known != found:
        changed = ", ".join(name for name in known | found if known.get(name) != found.get(name))
        raise ModelError(
            f"{model.source} no longer holds the weights that {folder.path} was started on: {changed}.",
            wanted="The same base: what was learned so far fits no other.",
            fix="Put the old weights back, or start a new run on these: tunesmith train, without --resume.",
        )


def check_shape(objective: Any, prepared: Any, project: Project) -> None:
    """Refuse rows that the method cannot learn from, in words, with the first row's line."""
    from tunesmith.data.fitting import fits, refusal

    wanted, found = getattr(objective, "shape", "chat"), prepared.kind
    if fits(found, wanted):
        return
    used: dict[str, str] = next((s["used"] for s in prepared.card["sources"] if s.get("used")), {})
    origin = next((str(row.get("origin", "")) for row in prepared.train), "")
    raise refusal(wanted, found, origin, used)


def check_read(objective: Any, project: Project) -> None:
    """Refuse settings of the rows that the method would not read."""
    from tunesmith.core.shelf import shelf

    methods = shelf("objectives")
    name, _ = methods.spec(project.method, "method")
    if project.data.weight is not None and not getattr(objective, "weighted", False):
        weigh = ", ".join(other for other in methods.names() if getattr(methods.load(other), "weighted", None) is True)
        raise SettingError(
            f"data.weight is {project.data.weight}, but method {name} counts every row alike.",
            wanted=f"A method whose loss is a sum in which rows have weights: {weigh}.",
            fix="Leave data.weight out. For rows that count double: have them twice.",
        )
    policies = getattr(objective, "too_long", ())
    if project.too_long is not None and policies and project.too_long not in policies:
        raise SettingError(
            f"too_long is {project.too_long}, but method {name} always reads a long text in pieces.",
            wanted=f"too_long: {' or '.join(policies)}.",
            fix="Leave too_long out.",
        )


def check_stopping(parts: Parts) -> None:
    """Refuse early stopping where nothing is evaluated on the way."""
    patience, feed = parts.project.train.early_stopping, parts.feed
    if patience is None or (len(parts.dev) and (feed is None or feed.reward is not None)):
        return
    raise SettingError(
        f"train.early_stopping is {patience}, but "
        + (
            "no rows are held out to evaluate on."
            if not len(parts.dev)
            else "nothing scores the answers to the dev rows."
        ),
        wanted="Evaluations that can stop getting better.",
        fix="Leave train.early_stopping out." if len(parts.dev) else "Hold rows out (data.dev=0.1), or leave it out.",
    )


def large_files(folder: RunFolder) -> list[Path]:
    """What is made of the rows once and then only read: the splits, and their tokens."""
    data = folder.path / "data"
    return [*(data / f"{part}.jsonl" for part in ("train", "dev", "test")), *sorted((data / "cache").rglob("*"))]


def tokenise(
    folder: RunFolder, part: str, rows: Any, objective: Any, text: Any, project: Project, filled: Mapping
) -> Any:
    """The Units of a split, in a cache on disk that is made once for each tokenizer, template and setting."""
    from tunesmith.data.cache import UnitCache

    key = hash_json(
        [folder.read_json("data/card.json")["key"], part, filled["method"], text.length, text.too_long, text.reasoning,
         text.tokenizer.vocab_size, text.tokenizer.chat_template, hash_tokenizer(text.tokenizer), project.seed]
    )  # fmt: skip
    place = folder.path / "data" / "cache" / part
    found = UnitCache.open(place, key)
    if found is not None:
        return found
    lost = Lost()
    made = UnitCache.write(place, encode(rows, objective, text, project.seed, lost), key=key)
    for drop in lost.drops:
        folder.journal("data/dropped.jsonl").append(drop)
    if lost.drops or lost.rows_trimmed:
        told = {"dropped": len(lost.drops), "by_origin": lost.by_origin, "trimmed": lost.rows_trimmed}
        folder.write_json(f"data/{part}_too_long.json", told)
    return made


@dataclass
class Lost:
    """What tokenising left out. drops: a line each for data/dropped.jsonl; by_origin: {source: {reason: rows of which nothing is
    left}}; rows_trimmed: rows whose prompt or text lost its beginning (too_long: trim_prompt)."""

    drops: list[dict[str, Any]] = field(default_factory=list)
    by_origin: dict[str, Counter[str]] = field(default_factory=dict)
    rows_trimmed: int = 0

    def drop(self, row: Mapping[str, Any], reason: str, detail: str, *, whole: bool) -> None:
        """Note a row that was left out, `whole` or a part of it."""
        self.drops.append({"origin": row["origin"], "reason": reason, "detail": detail, "by": "tokenise", "row": row})
        if whole:
            few = "too long" if reason.startswith("too long") else reason  # without its own number of tokens
            self.by_origin.setdefault(str(row["origin"]).rpartition(":")[0], Counter())[few] += 1


def counts(folder: RunFolder, prepared: Any) -> dict[str, Any]:
    """Rows in, out and dropped, by origin with the reasons: of preparing the data, then of tokenising train and dev.

    rows_out are the rows that are trained, evaluated or tested on; rows_trimmed those that too_long: trim_prompt has cut.
    """
    found: dict[str, Any] = copy.deepcopy(dict(prepared.counts))
    found["rows_trimmed"] = 0
    for part in ("train", "dev"):
        if not folder.file(f"data/{part}_too_long.json").exists():
            continue
        lost = folder.read_json(f"data/{part}_too_long.json")
        found["rows_trimmed"] += lost["trimmed"]
        for origin, reasons in lost["by_origin"].items():
            for reason, number in reasons.items():
                for place in (found, found["by_origin"][origin]):
                    place["rows_out"] -= number
                    place["rows_dropped"] += number
                told = found["by_origin"][origin]["reasons"]
                told[reason] = told.get(reason, 0) + number
    return found


def encode(rows: Any, objective: Any, text: Any, seed: int, lost: Lost) -> Iterator[Any]:
    """Units of rows as they stream by; what is left out is noted in `lost`.

    Too long rows under `error` are gathered into one error with a histogram.
    """
    from collections import Counter

    from tunesmith.text.draw import Draw
    from tunesmith.text.too_long import TooLong, too_long_report

    lengths: Counter[int] = Counter()  # only a report of rows too long reads them
    first = ""
    over = 0
    asks = hasattr(objective, "collect")  # its Units are prompts, on which nothing is trained
    for number, row in enumerate(rows):
        trimmed = text.num_trimmed
        try:
            units = objective.units(row, text, Draw([seed, 0, number], rows))
        except TooLong as error:
            if text.too_long != "error":
                raise DataError(f"{row['origin']}: {error.found}", wanted=error.wanted, fix=error.fix) from None
            lengths[error.num_tokens] += 1
            first, over = first or row["origin"], over + 1
            continue
        except (DataError, ModelError, SettingError) as error:
            raise type(error)(f"{row['origin']}: {error.found}", wanted=error.wanted, fix=error.fix) from None
        kept = units if asks else [unit for unit in units if any(example.num_trained for example in unit.examples)]
        told = tuple(dict.fromkeys(getattr(units, "dropped", ())))  # what the method left out of the row, and why
        if told:
            lost.drop(row, "; ".join(told), "", whole=not kept)
        elif len(kept) < len(units) or not units:
            reason = "too long" if not units else "nothing in it is trained on"
            detail = f"length is {text.length} tokens" if not units else ""
            lost.drop(row, reason, detail, whole=not kept)
        lost.rows_trimmed += text.num_trimmed > trimmed
        lengths.update(unit.num_tokens for unit in kept)
        if not over:
            yield from kept
    if over:
        raise DataError(f"{first}: {too_long_report(list(lengths.elements()), text.length)}")


def hash_tokenizer(tokenizer: Any) -> str:
    """A tokenizer's identity: its backend as JSON."""
    return hash_json(tokenizer.backend.to_str())


def choose(parts: Parts) -> dict[str, Any]:
    """The values that were not given, each with its reason under `why`."""
    from tunesmith.api.device import memory
    from tunesmith.report.labels import speaker
    from tunesmith.train import defaults
    from tunesmith.train.loop import steps_per_epoch

    train, config = parts.project.train, parts.model.net.config
    width, layers = int(config.hidden_size), int(config.num_hidden_layers)
    say = speaker(parts.project.lang)
    why: dict[str, str] = {}
    chosen: dict[str, Any] = {"why": why}
    if train.lr is None:
        base = getattr(parts.adapter, "lr", 2e-4)
        chosen["lr"] = defaults.learning_rate(base, width, getattr(parts.adapter, "lr_power", 1.0)) * (
            20 if train.optimizer == "sgd" else 1
        )
        why["lr"] = say("why_lr", base=f"{base:g}", reference=defaults.REFERENCE_WIDTH, width=width)
    else:
        chosen["lr"], why["lr"] = train.lr, "train.lr"
    if train.pass_tokens is None and train.update_in_backward:
        chosen["pass_tokens"] = one_pass(parts.units, train.batch_size)
        why["pass_tokens"] = say("why_one_pass")
    elif train.pass_tokens is None:
        chosen["pass_tokens"] = defaults.pass_tokens(width, layers, config.vocab_size, memory(parts.device))
        why["pass_tokens"] = say("why_memory")
    else:
        chosen["pass_tokens"], why["pass_tokens"] = train.pass_tokens, "train.pass_tokens"
    per_epoch = parts.feed.per_epoch if parts.feed else steps_per_epoch(len(parts.units), train.batch_size)
    seconds = None
    if train.minutes is not None and parts.feed:
        raise SettingError(
            "train.minutes is set, but a method that samples cannot foresee its time.", fix="Set train.steps."
        )
    if train.minutes is not None:
        from tunesmith.train.run import seconds_per_step

        seconds = seconds_per_step(
            parts.model.policy, parts.objective, parts.units, batch_size=train.batch_size,
            pass_tokens=chosen["pass_tokens"], seed=parts.project.seed, helpers=parts.helpers, precision=train.precision,
        )  # fmt: skip
    chosen["steps"], why["steps"] = defaults.steps(
        per_epoch=per_epoch,
        epochs=train.epochs,
        steps=train.steps,
        minutes=train.minutes,
        seconds_each=seconds,
        lang=parts.project.lang,
    )
    chosen["epochs"] = round(chosen["steps"] / per_epoch, 4)
    return chosen


def one_pass(units: Any, batch_size: int) -> int:
    """Tokens that no step exceeds, with room for padding and for answers still to be sampled."""
    return max(1 << 16, batch_size * 8 * int(units.lengths.max()))
