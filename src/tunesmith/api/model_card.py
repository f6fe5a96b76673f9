"""What is to be known of a base before it is trained: size, format, licence, context, memory, and how it does untuned.

    card = card_of("mini", Path.cwd())       # {"parameters": 6524160, "format": "bf16", "licence": {...}, ...}
    told(card)                                  # lines for people

Nothing is loaded and nothing fetched: the folder's files are looked at. A hub name is known once it lies in the hub's cache.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.model import embedded

LICENCES = ("LICENSE*", "LICENCE*", "license*")


def card_of(name: str, root: Path, *, rank: int | None = None, under: Path = Path("runs")) -> dict[str, Any] | None:
    """The card of a model by name, folder, run or cached hub name; None where nothing of it is on this machine.

    root   where relative names start
    rank   of the LoRA that is reckoned with; default: LoRA's own
    under  the folder of runs in which evaluations of the untuned model are looked for
    """
    folder = folder_of(name, root)
    if folder is None and name not in embedded.CONFIGS:
        return None
    facts = _of_folder(folder) if folder is not None else _made_here(name)
    if facts is None:
        return None
    return {
        "name": name,
        "folder": str(folder) if folder else None,
        **{key: facts[key] for key in ("parameters", "bytes", "format", "context", "licence")},
        "memory": _memory(facts, rank or _usual_rank()),
        "untuned": _untuned(name, folder, under),
    }


def folder_of(name: str, root: Path) -> Path | None:
    """Where the files of a model lie: of an embedded one, a folder, a run (its whole model, or its adapter's base), the hub's cache."""
    if name in embedded.ALL:
        place = embedded.folder(name)
        return place if (place / "config.json").is_file() else None
    place = root / Path(name).expanduser()
    if (place / "manifest.json").is_file():
        whole = next((place / part for part in ("model", "merged") if (place / part / "config.json").is_file()), None)
        return whole or _base_of(place / "adapter", root)
    if (place / "adapter_config.json").is_file():
        return _base_of(place, root)
    if (place / "config.json").is_file():
        return place
    if place.is_dir() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def told(card: Mapping[str, Any]) -> list[str]:
    """The card in lines."""
    from tunesmith.report.formats import size

    memory, licence = card["memory"], card["licence"]
    stored = (
        f"{card['format']}, {size(card['bytes'])} on disk"
        if card["bytes"]
        else f"{card['format']}, made here from a seed"
    )
    run = ", ".join(f"{size(number)} in {word}" for word, number in memory["run"].items())
    tune = f"LoRA of rank {memory['rank']}: {size(memory['lora'])}"
    tune += f"; full: {size(memory['full'])}" if memory["full"] else "; its weights are packed, so not in full"
    lines = [
        f"parameters  {card['parameters']:,}",
        f"format      {stored}",
        f"licence     {licence['name']} ({licence['from']})" if licence else "licence     not said in its folder",
        f"context     {card['context']:,} tokens" if card["context"] else "context     no limit in its configuration",
        f"to run      {run}",
        f"to tune     {tune}. In fp32, with what a batch takes on top: tunesmith plan",
    ]
    for one in card["untuned"]:
        score = f"{one['metric']} {one['value']:.4g}"
        score += f" (95 % {one['low']:.4g} to {one['high']:.4g})" if one["low"] is not None else ""
        lines.append(f"untuned     {score}, {one['n']:,} rows: {one['run']}, {one['evaluation']}")
    return lines if card["untuned"] else [*lines, "untuned     not scored yet: tunesmith eval with this model"]


def _base_of(adapter: Path, root: Path) -> Path | None:
    path = adapter / "adapter_config.json"
    if not path.is_file():
        return None
    name = json.loads(path.read_text("utf-8")).get("base_model_name_or_path")
    return folder_of(name, root) if name else None


def _of_folder(folder: Path) -> dict[str, Any] | None:
    """A folder's own facts; None where it holds no weights of the kind that is read."""
    from tunesmith.core.errors import ModelError
    from tunesmith.model.headers import block_matrices, formats, headers, is_packed, num_parameters

    found = headers(folder)
    if not found:
        return None
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{folder / 'config.json'} is no JSON: {error}", fix="Fetch or save the model again."
        ) from error
    return {
        "parameters": num_parameters(found), "bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        "format": formats(found), "packed": is_packed(found), "matrices": _packed_shapes(folder) or block_matrices(found),
        "context": _context(config), "licence": _licence(folder),
    }  # fmt: skip


def _packed_shapes(folder: Path) -> list[tuple[int, int]]:
    """(out, in) of the matrices that packed.json names; [] without it."""
    path = folder / "packed.json"
    layers = json.loads(path.read_text("utf-8")).get("layers", {}) if path.is_file() else {}
    return [(int(out), int(columns)) for out, columns in layers.values()]


def _made_here(name: str) -> dict[str, Any]:
    """Of a model that is drawn from a seed: it is small enough to be made and looked at."""
    from importlib.metadata import metadata

    from tunesmith.model.headers import Header, block_matrices
    from tunesmith.model.load import load, made_as

    model = load(name, kind=made_as(name))
    found = {n: Header("F32", tuple(p.shape), 4 * p.numel()) for n, p in model.net.named_parameters()}
    own = metadata("tunesmith")
    licence = next((own[key] for key in ("License-Expression", "License") if key in own), None)
    limit = getattr(model.net.config, "max_position_embeddings", None)
    return {
        "parameters": sum(p.numel() for p in model.net.parameters()), "bytes": None, "format": "fp32", "packed": False,
        "matrices": block_matrices(found), "context": model.context if limit else None,
        "licence": {"name": licence, "from": "Tunesmith's NOTICE"} if licence else None,
    }  # fmt: skip


def _context(config: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    for held in (config, inner or {}):
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"):
            if isinstance(held.get(name), int):
                return int(held[name])
    return None


def _licence(folder: Path) -> dict[str, str] | None:
    """What README.md's front matter says, or the first line of a licence file."""
    readme = folder / "README.md"
    text = readme.read_text("utf-8", errors="replace") if readme.is_file() else ""
    if text.startswith("---\n"):
        front = dict(line.split(":", 1) for line in text[4:].partition("\n---")[0].splitlines() if ":" in line)
        words = [front[key].strip().strip("'\"") for key in ("license", "license_name") if front.get(key, "").strip()]
        if words:
            return {"name": words[-1] if words[0] == "other" else words[0], "from": "README.md"}
    for path in (path for pattern in LICENCES for path in sorted(folder.glob(pattern)) if path.is_file()):
        line = next(
            (line.strip() for line in path.read_text("utf-8", errors="replace").splitlines() if line.strip()), ""
        )
        if line:
            return {"name": line, "from": path.name}
    return None


def _memory(facts: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Bytes by the closed formulas of plan/formulas.py: to run in fp32 and in bf16, to tune by LoRA and in full, in fp32."""
    from tunesmith.plan.formulas import inference, states

    number, packed = facts["parameters"], facts["packed"]
    weights = facts["bytes"] if packed else 4 * number
    added = sum(rank * (out + columns) for out, columns in facts["matrices"])
    as_held = {facts["format"]: round(inference(number, weights / number))}
    return {
        "run": as_held
        if packed
        else {word: round(inference(number, each)) for word, each in (("fp32", 4), ("bf16", 2))},
        "rank": rank,
        "lora": round(weights + 4 * added + states(added, 4)),
        "full": None if packed else round(weights + states(number, 4)),
    }


def _usual_rank() -> int:
    from tunesmith.core.shelf import shelf

    return int(shelf("adapters").filled("lora", "adapter")["lora"]["rank"])


def _untuned(name: str, folder: Path | None, under: Path) -> list[dict[str, Any]]:
    """Scores of the model as it is: of the runs of `tunesmith eval` on a project with it."""
    from tunesmith.api.runs import run_folders
    from tunesmith.report.read import glance

    found = []
    for path in run_folders(under) if under.is_dir() else ():
        facts = glance(path)
        if facts["verb"] != "eval" or not facts["score"] or not facts["model"]:
            continue
        root = Path(json.loads((path / "manifest.json").read_text("utf-8")).get("root") or ".")
        same = folder is not None and folder_of(str(facts["model"]), root) == folder
        if str(facts["model"]) == name or same:
            score = facts["score"]
            found.append(
                {"run": str(path), **{k: score[k] for k in ("evaluation", "metric", "value", "low", "high", "n")}}
            )
    return found
