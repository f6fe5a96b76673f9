"""Methods without a loop: read everything once, fit, write the result into the run folder as a training run does."""

import sys
import time
from pathlib import Path
from typing import Any

from tunesmith.core.result import Result


def fit_once(parts: Any, *, quiet: bool = False) -> Result:
    """Fit `parts.objective` on the training rows; features/ in the run folder is the result."""
    from tunesmith.api.build import base_to_train, counts
    from tunesmith.api.report import describe_data
    from tunesmith.api.train import fix_choices, hash_result, write_parameters
    from tunesmith.core.events import Events

    folder, objective, policy = parts.folder, parts.objective, parts.model.policy
    parts.model.net.requires_grad_(False)
    fix_choices(parts)
    write_parameters(parts)
    journal = folder.journal("events.jsonl")
    journal.cut(0)  # killed and begun again, it tells of the fit that ended
    events = Events(journal)
    events.emit("start", steps=1, steps_per_epoch=1, num_units=len(parts.units), batch_size=len(parts.units))
    if not quiet:
        print(f"Reading {len(parts.units):,} texts once; no weight of the model changes.", file=sys.stderr, flush=True)
    began, cache = time.perf_counter(), vectors_beside(folder.path)
    fitted = objective.fit(
        policy, parts.units, folder=cache, seed=parts.project.seed, pass_tokens=parts.chosen["pass_tokens"]
    )
    base = base_to_train(parts.project.model, parts.root, folder)
    base = str(Path(base).resolve()) if Path(base).is_dir() else base
    where = type(fitted)({**fitted.facts, "base": base}, fitted.tensors).save(folder.path / "features")
    figures = objective.figures_of(fitted, policy, parts.dev, folder=cache) if len(parts.dev) else {}
    seconds = time.perf_counter() - began
    if figures:
        events.emit("eval", step=1, dev_loss=1.0 - figures["accuracy"], figures=figures, improved=True)
    tokens = int(parts.units.total_tokens)
    events.emit("end", step=1, status="finished", early=False, best_step=1, best_dev_loss=None, seconds=seconds, tokens=tokens,
                trained_tokens=0, predicted_updates=1, counted_updates=1)  # fmt: skip
    describe_data(folder.path)
    facts = {
        "run": str(folder.path), "status": "finished", "result": str(where), "result_hash": hash_result(where), "steps": 1,
        "figures": figures, "seconds": round(seconds, 2), "tokens": tokens,
    }  # fmt: skip
    folder.update_manifest(status="finished", outcome=facts)
    told = (
        f": {figures['accuracy']:.1%} of the dev rows right, the most frequent label alone {figures['majority']:.1%}"
        if figures
        else ""
    )
    return Result(
        {**facts, "counts": counts(folder, parts.prepared), "chosen": parts.chosen},
        text=f"Fitted on {len(parts.units):,} texts in {seconds:.1f} s{told}.\nResult: {where}\nNext:   tunesmith eval {folder.path}",
    )


def vectors_beside(run: Path) -> Path:
    """Where vectors of texts are kept for all runs beside this one: another head, over the same base and rows, reads them again."""
    return run.parent / ".vectors"


def refuse_changes(project: Any, filled: dict[str, Any]) -> None:
    """Refuse what would change the model that a method without a loop reads: it is scored with its base as it is."""
    from tunesmith.api.config import Project
    from tunesmith.core.errors import SettingError
    from tunesmith.core.shelf import shelf

    word = next(iter(filled["method"]))
    nothing = [shelf("adapters").filled(name) for name in (Project.adapter, "full")]
    if project.push:
        raise SettingError(
            f"push is set, but method={word} leaves a small classifier over the vectors of its base, which no other tool loads.",
            fix="Leave push out.",
        )
    given = [name for name in ("base", "rope", "add_tokens") if getattr(project, name)]
    given += ["adapter"] if filled["adapter"] not in nothing else []
    if given:
        raise SettingError(
            f"{' and '.join(given)} {'are' if len(given) > 1 else 'is'} set, but method={word} changes nothing in the model: "
            "it learns from the vectors of the base as it is.",
            fix=f"Leave {', '.join(given)} out. To train the model too: method=classify",
        )
