"""The three states of a tuned model, and what changed between them: pre-trained, made ready for transfer, fine-tuned.

    found = states_of(Path("runs/train-1"))
    found["tuned"]["modules"]["layers.self_attn.q_proj"]        # {"changed": 0.031, "parameters": 4096}

pre-trained  the model a run started from, with the run that made it, if one did
transfer     what the adapter marked as trainable or added, and how much stays frozen
tuned        how far the weights moved: norm of the change / norm of the weights, module by module, from the files

Also here: a run as it was at an earlier checkpoint, as a run of its own.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

FILE = "states.json"
MOST = 300_000_000  # parameters; both models lie in memory at once while they are compared


def states_of(run: Path) -> dict[str, Any]:
    """{"pretrained", "transfer", "tuned"} of a finished training run; {} of anything else.

    Reading both models takes seconds, so what was found is kept in the run folder for the result it is about."""
    from tunesmith.core.files import write_json
    from tunesmith.report.read import as_dict, read_json, read_yaml

    manifest = as_dict(read_json(run / "manifest.json", []))
    counts, outcome = as_dict(read_json(run / "parameters.json", [])), as_dict(manifest.get("outcome"))
    if not counts or not outcome:
        return {}
    known = as_dict(read_json(run / FILE, [])) if (run / FILE).is_file() else {}
    if known.get("result_hash") == outcome.get("result_hash"):
        return known
    project = as_dict(read_yaml(run / "project.yaml", []))
    total = counts["trainable"] + counts["frozen"]
    found = {
        "result_hash": outcome.get("result_hash"),
        "pretrained": {
            "model": project.get("model"), "made_by": manifest.get("parent"), "merged_adapter": bool(manifest.get("base")),
            "parameters": counts["frozen"] if _adds(project) else total,
        },
        "transfer": {
            "adapter": project.get("adapter"), "method": project.get("method"), "targets": len(counts.get("targets") or ()),
            "trainable": counts["trainable"], "frozen": counts["frozen"],
        },
        "tuned": {
            "steps": outcome.get("steps"), "best_dev_loss": outcome.get("best_dev_loss"),
            **(_changes(run, project, manifest) if total <= MOST else {"changed": None, "modules": {}}),
        },
    }  # fmt: skip
    write_json(run / FILE, found)
    return found


def told(found: dict[str, Any]) -> str:
    """The three states for people, what changed most first."""
    from tunesmith.report.read import word_of

    before, ready, after = found["pretrained"], found["transfer"], found["tuned"]
    total = ready["trainable"] + ready["frozen"]
    made = f", made by the run {Path(str(before['made_by'])).name}" if before["made_by"] else ""
    made += " (its adapter merged)" if before["merged_adapter"] else ""
    share = 100 * ready["trainable"] / max(1, total)
    how = f"{word_of(ready['method'])} with {word_of(ready['adapter'])}"
    lines = [
        f"1 pre-trained   {before['model']}{made}",
        f"2 for transfer  {how}: {ready['trainable']:,} of {total:,} parameters train ({share:.3g} %)",
    ]
    loss = "" if after["best_dev_loss"] is None else f", best dev loss {after['best_dev_loss']:.4f}"
    if after["changed"] is None:
        moved = ""
    else:
        moved = f"; the weights moved by {100 * after['changed']:.3g} % of their norm"
    lines.append(f"3 fine-tuned    {after['steps']} steps{loss}{moved}")
    most = sorted(after["modules"].items(), key=lambda item: -item[1]["changed"])
    for name, one in [item for item in most if item[1]["changed"]][:5]:
        lines.append(f"                {100 * one['changed']:8.3g} %  {name}")
    still = sum(one["parameters"] for one in after["modules"].values() if not one["changed"])
    if still:
        lines.append(f"                {still:,} parameters are what they were, to the last bit")
    if after.get("new"):
        lines.append(f"                new: {', '.join(after['new'])}")
    return "\n".join(lines)


def _adds(project: dict[str, Any]) -> bool:
    """Whether what trains was added beside the base's weights, rather than being some of them."""
    from tunesmith.core.shelf import shelf
    from tunesmith.report.read import word_of

    name = word_of(project.get("adapter"))
    return name in shelf("adapters").names() and getattr(shelf("adapters").load(name), "file", "model") == "adapter"


def _changes(run: Path, project: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    """{"changed": share, "modules": {name: {"changed", "parameters"}}, "new": [names]} by comparing the weights of both.

    changed is None where what was learned cannot be put into the weights: then it stands under "new", beside them."""
    from tunesmith.adapters.store import merged, open_run

    if (run / "features").is_dir():  # a classifier over the model's vectors: no weight of the model was touched
        return {"changed": None, "modules": {}, "new": ["features"]}
    model = merged(open_run(run))
    base, heads = _before(run, project, manifest, model)
    # the table of the words lies inside a soft prompt's embedding
    tuned = {name.replace(".words.weight", ".weight"): value for name, value in model.net.state_dict().items()}
    groups: dict[str, list[float]] = {}
    new: list[str] = []
    seen: set[Any] = set()
    for name, value in tuned.items():
        if not value.is_floating_point():
            continue
        place = (value.data_ptr(), value.shape)
        if place in seen:
            continue  # tied weights lie at one place and count once
        seen.add(place)
        old = None if name.startswith(heads) else base.get(name)
        module = ".".join(part for part in name.split(".")[:-1] if not part.isdigit()).removeprefix("model.") or name
        if old is None or old.shape[1:] != value.shape[1:]:
            new.append(name)
            continue
        rows = min(len(old), len(value)) if value.ndim else None  # added tokens are new rows below
        one, other = (value[:rows], old[:rows]) if rows is not None else (value, old)
        difference, size = (one.double() - other.double()).square().sum().item(), other.double().square().sum().item()
        entry = groups.setdefault(module, [0.0, 0.0, 0])
        entry[0] += difference
        entry[1] += size
        entry[2] += one.numel()
    modules = {
        name: {"changed": (moved / size) ** 0.5 if size else float(moved > 0), "parameters": int(number)}
        for name, (moved, size, number) in groups.items()
    }
    moved, size = sum(entry[0] for entry in groups.values()), sum(entry[1] for entry in groups.values())
    share = (moved / size) ** 0.5 if size and model.adapter is None else None
    return {"changed": share, "modules": modules, "new": new}


def _before(run: Path, project: dict[str, Any], manifest: dict[str, Any], model: Any) -> tuple[Any, tuple[str, ...]]:
    """(the base's weights by name, loaded as the kind of network that the run made of it; beginnings of the names of new heads)."""
    from tunesmith.api.build import base_to_train
    from tunesmith.core.runs import RunFolder
    from tunesmith.evals.labels import problem_of
    from tunesmith.model.load import load

    where = base_to_train(str(project["model"]), Path(manifest.get("root") or "."), RunFolder(run))
    own = {"labels": model.labels, "problem": problem_of(model)} if model.kind == "classify" else {}
    base = load(where, kind=model.kind, seed=int(project.get("seed") or 0), **own)
    return base.net.state_dict(), tuple(f"{name}." for name in base.facts["heads"])


def at_checkpoint(run: Path, step: int) -> Path:
    """A run as it was at a checkpoint, as a run of its own beside it (RUN-step-N), with it as parent. Made once."""
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.runs import RunFolder
    from tunesmith.train import checkpoint

    first = RunFolder.open(run)
    there = checkpoint.steps_in(run / "checkpoints")
    if step not in there:
        raise ProjectError(
            f"{run} has no checkpoint of step {step}.",
            wanted=f"One of: {', '.join(map(str, there)) or 'none is there'}.",
            fix="More are kept with train.keep=5 (and train.save_every=10).",
        )
    target = run.with_name(f"{run.name}-step-{step}")
    if (target / "manifest.json").is_file():
        return target
    part = run.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    manifest = first.manifest()
    for name in ("data", "base"):
        if (run / name).is_dir():
            shutil.copytree(run / name, part / name, ignore=shutil.ignore_patterns("cache"))
    for name in ("project.yaml", "parameters.json", "explanation.json", "chosen.json"):
        if (run / name).is_file():
            shutil.copy2(run / name, part / name)
    progress = _write_weights(run, part, step, manifest)
    known = RunFolder(part)
    outcome = {
        "run": str(target), "status": "finished", "steps": step, "best_step": progress["best_step"],
        "best_dev_loss": progress["best_dev_loss"], "last_loss": progress["last_loss"], "seconds": progress["seconds"],
        "tokens": progress["tokens"], **_result(part, target),
    }  # fmt: skip
    known.write_json(
        "manifest.json",
        {
            **manifest, "parent": run.name, "name": target.name, "checkpoint": step, "outcome": outcome, "test_reads": [],
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )  # fmt: skip
    known.journal("events.jsonl").append(
        {"kind": "end", "step": step, "status": "finished", "best_step": progress["best_step"], "best_dev_loss": progress["best_dev_loss"]}
    )  # fmt: skip
    part.rename(target)
    return target


def _write_weights(run: Path, part: Path, step: int, manifest: dict[str, Any]) -> dict[str, Any]:
    """The result of a run with the weights of a checkpoint, into `part`; returns the checkpoint's progress."""
    import torch

    from tunesmith.adapters.store import open_run, save_adapter
    from tunesmith.core.errors import ModelError
    from tunesmith.model.save import save
    from tunesmith.train import checkpoint

    place = run / "checkpoints"
    saved = checkpoint.progress_of(place, step)
    model = open_run(run)
    where = dict(model.net.named_parameters(remove_duplicate=False))
    given = 0
    lost: list[str] = []
    for key, value in checkpoint.each(place, step, ("param.", "master.")):
        name = key.partition(".")[2]
        given += 1
        if name in where:
            with torch.no_grad():
                where[name].copy_(value)
        else:
            lost.append(name)
    if not given or lost:
        raise ModelError(
            f"the checkpoint of step {step} holds {', '.join(lost[:3]) or 'no weights'}, which the finished model of {run} does not have.",
            fix="Train again to that step: tunesmith rerun, with train.steps set.",
        )
    if (run / "adapter").is_dir():
        base = json.loads((run / "adapter" / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
        save_adapter(model, model.adapter, model.facts.get("targets", []), part / "adapter", base=base)
    else:
        save(model.net, model.tokenizer, part / "model", dtype="fp32")
    progress: dict[str, Any] = saved["progress"]
    return progress


def _result(part: Path, target: Path) -> dict[str, Any]:
    from tunesmith.api.train import hash_result

    kind = "adapter" if (part / "adapter").is_dir() else "model"
    return {"result": str(target / kind), "result_hash": hash_result(part / kind)}
