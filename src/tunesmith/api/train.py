"""tunesmith train: fine-tune or pre-train a model on your rows, into a run folder."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith.core.result import Result

WORTH_A_PLAN = 50_000_000  # parameters from which on a run is planned before its first step: smaller ones fit
CHOICES = (  # told in these lines, beside those that have a reason of their own
    ("optimizer", "betas", "schedule", "warmup", "min_lr", "weight_decay", "clip"),
    ("precision", "eval_every", "early_stopping", "keep", "seed", "length", "too_long"),
)


def train(
    config: str | None = None,
    *,
    resume: str | None = None,
    nproc: int = 1,
    plan: bool = False,
    quiet: bool = False,
    **keys: Any,
) -> Result:
    """Train a model on your rows.

    config   a project file (default: tunesmith.yaml, if there is one)
    resume   a run's folder: go on where it was stopped or killed, as if nothing had happened
    nproc    processes that train together on this machine (data parallel); a run may go on with another number.
             On several machines: torchrun ... -m tunesmith train FILE out=FOLDER
    plan     forecast the memory before the first step and compare it after the last, also below fifty million parameters
    quiet    no progress on stderr

    Example: tunesmith train data=faq.json adapter=lora epochs=3
    """
    from tunesmith.api.config import resolve
    from tunesmith.api.device import place
    from tunesmith.api.ranks import in_turn, launched, several, start_together
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.files import free_path
    from tunesmith.core.runs import RunFolder
    from tunesmith.step.ranks import together

    if resume is not None:
        if config is not None or keys or plan:
            raise ProjectError(
                "--resume goes on with a run as it was set up; it takes no project file and no keys.",
                fix=f"tunesmith train --resume {resume}    or start a new run without --resume.",
            )
        folder = RunFolder.open(resume)
        manifest = folder.manifest()
        if manifest.get("verb") != "train":
            raise ProjectError(
                f"{resume} is a run of tunesmith {manifest.get('verb')}, which is not gone on with.",
                wanted="The folder of a training run.",
            )
        root = Path(manifest.get("root") or ".")
        project, filled, root = resolve(str(folder.file("project.yaml")), root=root)
        if nproc > 1:
            place(project.device, process=nproc - 1)
            return launched(folder, nproc, quiet=quiet)
        with together(place(project.device)):
            return run(in_turn(project, filled, root, folder), resume=True, quiet=quiet)
    project, filled, root = resolve(config, **keys)
    if nproc > 1 or several():
        if plan:
            raise ProjectError("--plan is for a run in one process.", fix="tunesmith plan devices=N says what N need.")
        return start_together(project, filled, root, nproc, quiet=quiet)
    return start(project, filled, root, Path(project.out or free_path("runs", "train")), plan=plan, quiet=quiet)


def start(
    project: Any,
    filled: dict[str, Any],
    root: Path,
    path: Path,
    *,
    parent: str | None = None,
    plan: bool = False,
    quiet: bool = False,
) -> Result:
    """A new run of a resolved project in the folder `path`."""
    from tunesmith.api.build import assemble, new_run, run_facts

    with new_run(path, project=filled, **run_facts(project, root, path, parent)) as folder:
        return run(assemble(project, filled, root, folder), plan=plan, quiet=quiet)


def run(parts: Any, *, resume: bool = False, plan: bool = False, quiet: bool = False) -> Result:
    """Train assembled parts to the end and write what the other stages read. plan: forecast its memory, however small it is."""
    from tunesmith.api.build import counts
    from tunesmith.api.push import opened, pushed
    from tunesmith.api.report import describe_data
    from tunesmith.model.packed import num_weights
    from tunesmith.report.labels import speaker
    from tunesmith.train.loggers import loggers
    from tunesmith.train.progress import Progress
    from tunesmith.train.run import fit, note_peak

    if hasattr(parts.objective, "fit"):
        from tunesmith.api.fit import fit_once

        return fit_once(parts, quiet=quiet)
    folder, project, model = parts.folder, parts.project, parts.model
    say = speaker(project.lang)
    quiet = quiet or not folder.writes
    if project.push and folder.writes:
        opened(project.push)
    told = fix_choices(parts)
    if not quiet:
        print(told, file=sys.stderr, flush=True)
    write_parameters(parts)
    fresh = not folder.file("events.jsonl").exists()  # the processes of --nproc start with --resume
    if fresh and folder.writes and (plan or num_weights(model.net) >= WORTH_A_PLAN):
        from tunesmith.api.plan import planned

        line = planned(parts)
        if not quiet:
            print(line, file=sys.stderr, flush=True)
    listeners: list[Any] = [
        *([] if quiet else [Progress(lang=project.lang)]),
        *(loggers(project.log, folder) if folder.writes else []),
    ]
    score = scorer(parts)
    # what samples and is not paid has prompts for dev rows, and nothing that judges an answer to them
    dev = None if parts.feed is not None and score is None else parts.dev
    outcome = fit(
        model, parts.objective, parts.feed or parts.units, dev, folder=folder, resume=resume, listeners=listeners,
        helpers=parts.helpers, score=score,
        on_eval=sampler(parts) if project.train.sample and len(parts.dev) else None,
        result_bytes=sum(p.numel() * 4 for p in model.net.parameters() if p.requires_grad), **parts.fit_settings(),
    )  # fmt: skip
    signs = warnings_of(folder)
    if outcome.status == "stopped":
        text = "\n".join(
            [
                say("train_stopped", step=outcome.steps, steps=parts.chosen["steps"]),
                told_warnings(signs, say) + say("train_go_on", command=f"tunesmith train --resume {folder.path}"),
            ]
        )
        return Result(run=str(folder.path), status="stopped", step=outcome.steps, text=text)
    if not folder.writes:
        return Result(run=str(folder.path), status="finished", text="")
    where = save_result(parts)
    describe_data(folder.path)
    note_peak(folder)
    memory = ""
    if (folder.path / "plan.json").exists():
        from tunesmith.api.plan import compared

        memory = compared(parts)
    facts = {
        "run": str(folder.path), "status": "finished", "result": str(where), "result_hash": hash_result(where), "steps": outcome.steps,
        "best_step": outcome.best_step, "best_dev_loss": outcome.best_dev_loss, "last_loss": outcome.last_loss,
        "seconds": round(outcome.seconds, 2), "tokens": outcome.tokens, "counts": counts(folder, parts.prepared),
        "chosen": parts.chosen, "warnings": signs,
    }  # fmt: skip
    folder.update_manifest(
        status="finished", outcome={k: v for k, v in facts.items() if k not in ("counts", "chosen", "warnings")}
    )
    text = summary(parts, outcome, where, signs, memory)
    if project.push:
        facts["pushed"] = pushed(project.push, folder, where)
        folder.update_manifest(outcome={**folder.manifest()["outcome"], "pushed": facts["pushed"]})
        text += "\n" + say("train_pushed", url=facts["pushed"])
    return Result(facts, text=text)


def warnings_of(folder: Any) -> list[dict[str, Any]]:
    """The signs of trouble that a run gave while it trained: each with its step, name, message and fix."""
    named = ("step", "name", "message", "fix")
    found = [event for event in folder.journal("events.jsonl") if event["kind"] == "warning"]
    return [{name: event[name] for name in named} for event in found]


def told_warnings(signs: list[dict[str, Any]], say: Callable[..., str]) -> str:
    """Lines for people: of each kind of sign the last, with its step."""
    last = {sign["name"]: sign for sign in signs}
    return "".join(
        say("train_warned", step=sign["step"], message=sign["message"]) + f"\n  {sign['fix']}\n"
        for sign in last.values()
    )


def scorer(parts: Any) -> Any:
    """How methods that sample are evaluated: by the reward of sampled answers to the dev prompts."""
    if parts.feed is None or parts.feed.reward is None or not len(parts.dev):
        return None
    asked = [parts.dev[i] for i in range(min(len(parts.dev), 256))]
    return lambda: parts.feed.score(asked)


def fix_choices(parts: Any) -> str:
    """Write the chosen values into project.yaml (a rerun or a resume takes the same) and tell every value."""
    from tunesmith.api.device import card
    from tunesmith.core.project import to_yaml
    from tunesmith.model.packed import num_weights
    from tunesmith.report.labels import speaker

    train, chosen, say = parts.filled["train"], parts.chosen, speaker(parts.project.lang)
    prepared, units = parts.prepared, parts.units
    rows = {"train": len(prepared.train), "dev": len(prepared.dev), "test": prepared.num_test}
    examples = {"n": len(units), "tokens": units.total_tokens, "trained": units.total_trained}
    told = {
        "model": say("train_parameters", name=parts.filled["model"], n=f"{num_weights(parts.model.net):,}"),
        "method": parts.filled["method"], "adapter": adapter_told(parts),
        "rows": say("train_rows", **{name: f"{number:,}" for name, number in rows.items()}),
        "examples": say("train_examples", **{name: f"{number:,}" for name, number in examples.items()}),
        "layout": parts.model.proof.layout + (f": {parts.model.proof.reason}" if parts.model.proof.reason else ""),
    }  # fmt: skip
    if parts.device != "cpu":
        told["device"] = f"{parts.device} ({card(parts.device)})"
    if (lost := parts.folder.file("data/train_too_long.json")).exists():
        found = json.loads(lost.read_text())
        if found["dropped"]:
            told["left out"] = say("train_left_out", n=f"{found['dropped']:,}")
        if found["trimmed"]:
            told["cut"] = say("train_cut", n=f"{found['trimmed']:,}")
    lines = [f"{name:>10}  {value}" for name, value in told.items()]
    for name in ("lr", "steps", "epochs", "pass_tokens"):
        lines.append(f"{name:>10}  {chosen[name]:g}" + (f"   ({chosen['why'][name]})" if name in chosen["why"] else ""))
    lines.append(effective_batch(train["batch_size"], parts.units, chosen["pass_tokens"], say))
    train.update(precision=parts.project.train.precision)  # what auto meant
    every = {**train, "seed": parts.project.seed, "length": parts.text.length, "too_long": parts.text.too_long}
    lines += ["            " + "  ".join(f"{name}={every[name]}" for name in names) for names in CHOICES]
    train.update(lr=chosen["lr"], steps=chosen["steps"], pass_tokens=chosen["pass_tokens"], epochs=None, minutes=None)
    parts.folder.write_text("project.yaml", to_yaml(parts.filled))
    parts.folder.write_json("chosen.json", chosen)
    hyperparameters = {**train, "method": parts.filled["method"], "adapter": parts.filled["adapter"]}
    parts.folder.update_manifest(hyperparameters=hyperparameters, kernels=kernels(parts.device), device=parts.device)
    return "\n".join(lines)


def adapter_told(parts: Any) -> Any:
    """The adapter's settings, with the alpha that null means."""
    adapter, filled = parts.adapter, parts.filled["adapter"]
    if getattr(adapter, "alpha_per_rank", None) is None or adapter.alpha is not None:
        return filled
    return {name: {**settings, "alpha": adapter.alpha_per_rank * adapter.rank} for name, settings in filled.items()}


def kernels(device: str) -> str:
    """Whose attention ran: the last bits of its sums differ from another one's."""
    from tunesmith.api.device import card
    from tunesmith.model.compiled import why_not

    if device != "cpu":
        return f"torch on {card(device)}"
    return f"torch: {why_not()}" if why_not() else "attention in C"


def effective_batch(batch_size: int, units: Any, pass_tokens: int, say: Callable[..., str]) -> str:
    """Effective batch = per pass x accumulation x devices, with advice that is never a refusal."""
    from tunesmith.step.ranks import ranks

    mean = max(1.0, units.total_tokens / max(1, len(units)))
    own = -(-batch_size // ranks())  # rows of an update on one device
    passes = -(-own // max(1, min(own, int(pass_tokens / mean))))
    per_pass = round(batch_size / (passes * ranks()), 1)
    advice = []
    if batch_size < 32:
        advice.append(say("train_advice_small"))
    if batch_size & (batch_size - 1):
        advice.append(say("train_advice_power"))
    told = say("train_batch", batch=batch_size, per_pass=f"{per_pass:g}", passes=passes, devices=ranks())
    return f"     batch  {told}" + (f"   {say('train_advice', list=', '.join(advice))}" if advice else "")


def write_parameters(parts: Any) -> None:
    """parameters.json: what is learned, apart from what is set; counts by module, trained and frozen."""
    from tunesmith.model.packed import packed_layers

    modules: dict[str, dict[str, int]] = {}
    counted = [(name, p.numel(), p.requires_grad) for name, p in parts.model.net.named_parameters()]
    packed = packed_layers(parts.model.net).items()  # their weights are no parameters of torch's
    counted += [(f"{name}.weight", layer.out_features * layer.in_features, False) for name, layer in packed]
    for name, number, trained in counted:
        module = ".".join(part for part in name.split(".")[:-1] if not part.isdigit()) or name
        entry = modules.setdefault(module, {"trainable": 0, "frozen": 0})
        entry["trainable" if trained else "frozen"] += number
    total = {key: sum(entry[key] for entry in modules.values()) for key in ("trainable", "frozen")}
    parts.folder.write_json("parameters.json", {**total, "modules": modules, "targets": parts.targets})
    figures = getattr(parts.objective, "figures", {})
    told = {name: dict(zip(("en", "ko"), meaning.split("\n\n"))) for name, meaning in figures.items()}
    parts.folder.write_json("explanation.json", {"method": type(parts.objective).__name__, "figures": told})


def sampler(parts: Any) -> Any:
    """Answers to a few dev prompts at each evaluation: the eye sees what a loss does not."""
    if parts.model.kind != "causal":  # it writes no answers
        return None
    rows = [parts.prepared.dev[i] for i in range(min(parts.project.train.sample, len(parts.prepared.dev)))]
    prompts = [(row, asked_and_expected(row, parts.text)) for row in rows if row.get("messages")]
    prompts = [(row, split) for row, split in prompts if any(message["role"] != "system" for message in split[0])]
    if not prompts:
        return None

    def sample(step: int) -> dict[str, Any]:
        from tunesmith.evals.run import read_answer
        from tunesmith.model.generate import generate

        ids = [parts.text.prompt(asked, row.get("tools")) for row, (asked, _) in prompts]
        room = parts.model.context - max(map(len, ids))
        if room < 1:
            return {}
        answers = generate(parts.model, ids, max_tokens=min(64, room), eos_ids=parts.text.stops)
        shown = [
            {
                "prompt": asked[-1]["content"],
                "expected": expected,
                "answer": read_answer(parts.text, answer, asked_ids)[1],
            }
            for (_, (asked, expected)), answer, asked_ids in zip(prompts, answers, ids)
        ]
        return {"samples": shown}

    return sample


def asked_and_expected(row: Mapping[str, Any], text: Any = None) -> tuple[list[dict[str, Any]], str]:
    """(messages to answer, the answer hoped for): of a preference row the chosen one, of a prompt its reference, of an answer
    rated bad none. `text` writes tool calls as the model must."""
    from tunesmith.evals.run import as_question

    turns = [*row["messages"], *row.get("chosen", ())]
    if turns[-1]["role"] != "assistant":
        return turns, str(row.get("answer") or "")
    if len(turns) < 2 or row.get("label") is False:
        return turns[:-1], ""
    asked = as_question({"messages": turns, "tools": row.get("tools")}, text)
    return asked["messages"], str(asked["answer"])


def save_result(parts: Any) -> Path:
    """adapter/ in PEFT's format, or model/ as transformers loads it."""
    from tunesmith.adapters.store import save_adapter
    from tunesmith.api.build import base_to_train
    from tunesmith.model.save import save
    from tunesmith.model.value_head import drop_value_head

    kind = getattr(parts.adapter, "file", "model")
    if kind == "adapter":
        name = base_to_train(parts.project.model, parts.root, parts.folder)
        base = str(Path(name).resolve()) if Path(name).is_dir() else name
        return save_adapter(parts.model, parts.adapter, parts.targets, parts.folder.path / "adapter", base=base)
    drop_value_head(parts.model)
    return save(parts.model.net, parts.model.tokenizer, parts.folder.path / "model", dtype="fp32")


def hash_result(folder: Path) -> str:
    """sha256 over the weight files of a result: equal hashes are equal models."""
    from tunesmith.core.files import hash_file, hash_json

    return hash_json({path.name: hash_file(path) for path in sorted(folder.glob("*.safetensors"))})


def summary(parts: Any, outcome: Any, where: Path, signs: list[dict[str, Any]], memory: str = "") -> str:
    """What a person reads at the end. memory: a line on the planned and the measured, where the run was planned."""
    from tunesmith.report.labels import speaker
    from tunesmith.train.progress import duration

    lang, run = parts.project.lang, parts.folder.path
    say = speaker(lang)
    done = say("trained", steps=outcome.steps, time=duration(outcome.seconds, lang), loss=f"{outcome.last_loss:.4f}")
    if outcome.best_dev_loss is not None:
        done += say("trained_best", loss=f"{outcome.best_dev_loss:.4f}", step=outcome.best_step)
    verbs = ["eval", "chat", "report"] if parts.model.kind == "causal" else ["eval", "report"]
    lines = [
        f"{done}.",
        *told_warnings(signs, say).splitlines(),
        *filter(None, [memory]),
        say("train_result", path=where),
    ]
    return "\n".join([*lines, say("train_next", list="    ".join(f"tunesmith {verb} {run}" for verb in verbs))])
