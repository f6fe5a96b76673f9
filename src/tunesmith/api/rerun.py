"""tunesmith rerun: a run again from its manifest, and whether the figures are the same."""

import json
from dataclasses import replace
from pathlib import Path

from tunesmith.core.result import Result


def rerun(run: str, *, out: str | None = None, quiet: bool = False) -> Result:
    """Repeat a run from its manifest and compare the figures.

    run   the folder of a finished run
    out   folder of the repetition; default: a new one beside it
    quiet no progress on stderr

    On the same CPU with the same number of threads the weights are equal to the last bit.

    Example: tunesmith rerun runs/train-1
    """
    from tunesmith.api.config import resolve
    from tunesmith.api.train import start
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.files import free_path
    from tunesmith.core.runs import RunFolder, versions

    first = RunFolder.open(run)
    manifest = first.manifest()
    if manifest.get("verb") != "train":
        raise ProjectError(f"{run} is a run of tunesmith {manifest.get('verb')}.", wanted="A finished training run.")
    if "outcome" not in manifest:
        raise ProjectError(
            f"{run} is no finished training run.", fix=f"Finish it first: tunesmith train --resume {run}"
        )
    path = Path(out or free_path(first.path.parent, f"{first.path.name}-again"))
    project, filled, root = resolve(str(first.file("project.yaml")), root=Path(manifest.get("root") or "."))
    project, filled = replace(project, push=None), {**filled, "push": None}  # to repeat is not to publish again
    result = start(project, filled, root, path, parent=str(first.path), quiet=quiet)
    again = RunFolder.open(path).manifest()
    before, after = manifest["outcome"], again["outcome"]
    same = {
        "data": manifest["data_hashes"] == again["data_hashes"],
        "weights": before["result_hash"] == after["result_hash"],
        "last_loss": before["last_loss"] == after["last_loss"],
        "best_dev_loss": before["best_dev_loss"] == after["best_dev_loss"],
    }
    changed = {k: (v, versions()[k]) for k, v in manifest["versions"].items() if versions().get(k) != v}
    kernels = [kept.get("kernels", "") for kept in (manifest, again)]
    changed |= {"kernels": tuple(kernels)} if kernels[0] != kernels[1] else {}
    own = sorted(name for name, _ in manifest["use"].items() ^ again["use"].items())
    code = ["Tunesmith's own code"] if manifest["code_hash"] != again["code_hash"] else []
    files = [*code, *dict.fromkeys(own)]
    lines = [f"{'equal' if ok else 'DIFFERENT':>9}  {name}" for name, ok in same.items()]
    if not all(same.values()):
        lines.append(f"Versions that changed: {json.dumps(changed) if changed else 'none; other hardware or threads?'}")
    if files:
        lines.append(f"Code that changed since: {', '.join(files)}")
    return Result(
        run=str(path), parent=str(first.path), equal=all(same.values()), same=same, before=before, after=after,
        versions_changed=changed, code_changed=files, text="\n".join([result.text, f"Compared with {first.path}:", *lines]),
    )  # fmt: skip
