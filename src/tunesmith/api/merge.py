"""tunesmith merge: put an adapter into its base and write the whole model, with the proof that both say the same."""

from pathlib import Path
from typing import Any

from tunesmith.core.result import Result


def merge(run: str, out: str | None = None, *, precision: str = "fp32") -> Result:
    """Put a run's adapter into its base model, as a folder that plain transformers loads.

    run        a run with an adapter, or an adapter's folder
    out        the new model's folder; default: RUN/merged
    precision  number format of the written weights: fp32 or bf16

    Example: tunesmith merge runs/train-1 merged-model precision=bf16
    """
    from tunesmith.core.errors import ModelError, SettingError

    if precision not in ("fp32", "bf16"):
        raise SettingError(f"precision is {precision!r}.", wanted="fp32 or bf16.")
    where = Path(out or Path(run) / "merged")
    if (where / "config.json").exists():
        raise ModelError(f"{where} already holds a model.", fix="Choose another folder: tunesmith merge RUN FOLDER")
    if where.is_file() or where.is_dir() and any(where.iterdir()):  # writing a model replaces the whole folder
        raise ModelError(
            f"{where} is there already and is not empty.", fix="Choose a new folder: tunesmith merge RUN FOLDER"
        )
    difference = write_merged(Path(run), where, precision=precision)
    return Result(
        folder=str(where), difference=difference, precision=precision,
        text=f"Merged into {where} ({precision}). Largest difference of logits before writing: {difference:.2g}.",
    )  # fmt: skip


def write_merged(run: Path, where: Path, *, precision: str = "fp32") -> float:
    """The whole model of a run with an adapter, written into `where`; returns the largest difference of logits.

    Raises ModelError, and writes nothing, when the merged model does not say what the adapter on its base says."""
    import torch

    from tunesmith.adapters.store import merge as merged
    from tunesmith.adapters.store import open_run
    from tunesmith.core.errors import ModelError
    from tunesmith.model.save import save

    model = open_run(run)
    if model.adapter is None:
        raise ModelError(f"{run} has no adapter: there is nothing to merge.", wanted="A run trained with adapter=lora.")
    ids = torch.randint(
        0, model.tokenizer.vocab_size, (1, min(64, model.context)), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        before, after = _output(model, ids), _output(merged(model), ids)
    difference = float((before - after).abs().max())
    if difference > 1e-3 * max(1.0, float(before.abs().max())):
        raise ModelError(
            f"the merged model's logits differ by {difference:.2g} from the adapter's; nothing was written."
        )
    save(model.net, model.tokenizer, where, dtype=precision)
    return difference


def _output(model: Any, ids: Any) -> Any:
    """What a network makes of some tokens: logits, or states where it has no head."""
    given = {"decoder_input_ids": ids[:, :8]} if model.kind == "seq2seq" else {}
    found = model.net(ids, use_cache=False, **given)
    return found.last_hidden_state if model.kind == "embed" else found.logits
