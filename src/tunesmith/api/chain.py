"""tunesmith chain: several trainings in a row, each from the last one's model, in one command and one folder.

model: mini                              # chain.yaml: what all stages share, as in any project file
adapter: full
stages:
  pretrain: {method: pretrain, data: law.txt}
  sft:      {method: sft, data: faq.jsonl, metrics: [token_f1]}
  reward:   {method: reward, data: votes.jsonl}
  dpo:      {from: sft, method: dpo, data: votes.jsonl}
  ppo:      {from: sft, method: {ppo: {reward: {model: "@reward"}}}, data: faq.jsonl}
compare: {rows: 100}                     # the table at the end

Every stage is a run folder of its own (OUT/sft) with its parent in the manifest, so that any of them can be evaluated,
served, compared, or trained further. `chain.json` holds how far it is, `comparison.json` and `comparison.md` the table.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.core.result import Result


def chain(config: str | None = None, *, quiet: bool = False, **keys: Any) -> Result:
    """Train in stages, each from the last one's model, and compare all of them at the end.

    config  a project file with stages:, or its folder (default: tunesmith.yaml)
    quiet   no progress on stderr

    Keys set what all stages share (train.steps=50), or one of them (stages.sft.train.steps=50); compare.rows=100 is for the
    table at the end. A stage starts from the one before it, or from its `from:` (a stage, or base). "@reward" in its settings
    is the run of the stage reward. Stopped or killed, the same command goes on where it was.

    Example: tunesmith chain chain.yaml out=runs/chain
    """
    from tunesmith.api.build import data_settings
    from tunesmith.api.stages import check_stages
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.files import to_json, write_json, write_whole
    from tunesmith.data.prepare import hash_sources
    from tunesmith.ladder.stages import changed, differences

    plan = _plan(config, keys)
    check_stages(plan)
    out: Path = plan.out
    record = _record(out)
    place = out / "chain.json"
    runs: dict[str, str] = {}
    for stage in plan.stages:
        run = out / stage.name
        base = runs[stage.base] if stage.base else plan.model
        project, filled, root = _project(plan, stage, base, run, runs)
        asked = json.loads(to_json(_project(plan, stage, stage.base or plan.model, run, {})[1] | {"out": None}))
        if (data := project.data).path is not None or data.name is not None:
            asked["content of the data"] = hash_sources(root=root, **data_settings(data))[:12]
        known = record["stages"].get(stage.name)
        if known and (run / "manifest.json").is_file() and (found := differences(known["asked"], asked)):
            raise changed(stage.name, str(run), found)
        record["stages"][stage.name] = {
            "run": stage.name, "from": stage.base or "base", "asked": asked,
        }  # fmt: skip
        # beside the project file a relative path, so that the whole folder can be moved
        whole = run.resolve()
        runs[stage.name] = str(whole.relative_to(plan.root) if whole.is_relative_to(plan.root) else whole)
        if not _unchanged_order(record, plan.stages):
            gone = ", ".join(name for name in record["stages"] if name not in {one.name for one in plan.stages})
            raise ProjectError(
                f"{out} holds stages that the file no longer has: {gone}.", fix="Another folder: out=..."
            )
        write_json(place, record)
        result = _train(project, filled, root, run, stage.base, quiet=quiet)
        if result is not None and result.get("status") == "stopped":
            text = f"Stopped in the stage {stage.name}, step {result['step']}; nothing is lost.\nGo on: the same command again."
            return Result(run=str(out), status="stopped", stage=stage.name, text=text)
    from tunesmith.api.variants import compare_variants, told

    measured = compare_variants(plan, {stage.name: str(out / stage.name) for stage in plan.stages}, quiet=quiet)
    text = told(measured)
    write_whole(out / "comparison.md", told(measured, markdown=True))
    text += f"\n\nEvery variant is a run: {', '.join(str(out / stage.name) for stage in plan.stages)}\nTable:  {out / 'comparison.md'}"
    return Result({"run": str(out), "status": "finished", "stages": runs, **measured}, text=text)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A chain's file, read: the settings all stages share, the stages, the table, and where it goes.

    over  keys for all stages;  own  keys for one, by its name"""

    shared: dict[str, Any]
    over: dict[str, Any]
    own: dict[str, Any]
    stages: list[Any]
    compare: Any
    model: str
    root: Path
    out: Path
    device: str


def _plan(config: str | None, keys: dict[str, Any]) -> Plan:
    from tunesmith.api.config import Project, _nested, _read, resolve
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.fill import fill
    from tunesmith.core.project import merge
    from tunesmith.core.shelf import shelf
    from tunesmith.ladder.stages import CompareSettings, read_stages

    raw, root = _read(config)
    over = _nested(keys)
    if "stages" not in raw:
        raise ProjectError(
            f"{config if isinstance(config, str | Path) else 'The project'} has no stages:.",
            wanted="stages:\n  pretrain: {method: pretrain, data: raw.txt}\n  sft: {method: sft, data: faq.jsonl}",
            fix="For one training: tunesmith train",
        )
    own = over.pop("stages", {})
    stages_raw = merge(raw["stages"], own) if isinstance(raw["stages"], Mapping) else raw["stages"]
    compare = fill(CompareSettings, merge(raw.get("compare") or {}, over.pop("compare", {})), "compare")
    shared = {key: value for key, value in raw.items() if key not in ("stages", "compare")}
    project, _, _ = resolve({**shared, **({"use": over["use"]} if "use" in over else {})}, root=root)

    def kind_of(name: str, settings: Mapping[str, Any]) -> str:
        spec = shelf("objectives").merge(
            shared.get("method", Project.method), settings.get("method", shared.get("method"))
        )
        word, _ = shelf("objectives").spec(spec or Project.method, f"stages.{name}.method")
        return str(getattr(shelf("objectives").load(word), "kind", "causal"))

    stages = read_stages(stages_raw, kind_of=kind_of)
    model = str(over.pop("model", project.model))
    file = Path(config) if isinstance(config, str | Path) and Path(config).is_file() else Path("chain")
    out = Path(str(over.pop("out", None) or project.out or Path("runs") / file.stem))
    return Plan(shared, over, own, stages, compare, model, root, out, str(over.get("device", project.device)))


def _project(
    plan: Plan, stage: Any, model: str, run: Path, runs: Mapping[str, str]
) -> tuple[Any, dict[str, Any], Path]:
    """A stage's project: its own settings over the shared ones, the command line's over both, those for this stage last."""
    import functools

    from tunesmith.api.config import SPECS, Project, resolve
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.project import merge, place
    from tunesmith.core.shelf import shelf
    from tunesmith.ladder.stages import with_runs

    own = {key: value for key, value in plan.own.get(stage.name, {}).items() if key != "from"}
    layers = [place(Project, with_runs(layer, runs)) for layer in (plan.shared, stage.settings, plan.over, own)]
    if any("push" in layer for layer in (layers[0], layers[2])):
        raise ProjectError(
            "push is set for all stages: each would write its result over the last one's.",
            fix="Set it in the one stage whose result is wanted.",
        )
    merged = functools.reduce(merge, layers)
    for word, kind in SPECS.items():
        if "." not in word and not isinstance(getattr(Project, word), tuple):
            given = [layer[word] for layer in layers if word in layer]
            if given:
                merged[word] = functools.reduce(shelf(kind).merge, given, getattr(Project, word))
    return resolve({**merged, "model": model, "out": str(run)}, root=plan.root)


def _record(out: Path) -> dict[str, Any]:
    """What an earlier call wrote into chain.json."""
    from tunesmith.core.errors import ProjectError

    if (out / "manifest.json").is_file():
        raise ProjectError(f"{out} is a run, not a chain's folder.", fix="Choose another: out=...")
    place = out / "chain.json"
    return json.loads(place.read_text("utf-8")) if place.is_file() else {"format": 1, "stages": {}}


def _unchanged_order(record: Mapping[str, Any], stages: list[Any]) -> bool:
    return set(record["stages"]) <= {stage.name for stage in stages}


def _train(
    project: Any, filled: dict[str, Any], root: Path, run: Path, parent: str | None, *, quiet: bool
) -> dict[str, Any] | None:
    """Start a stage, go on with it, or leave it: None when it was finished before."""
    from tunesmith.api.train import start, train

    manifest = run / "manifest.json"
    if not manifest.is_file():
        return start(project, filled, root, run, parent=parent, quiet=quiet)
    if "outcome" in json.loads(manifest.read_text("utf-8")):
        return None
    return train(resume=str(run), quiet=quiet)
