"""The peer's side of one run: LitGPT's own fine-tuning loop on the fixed rows. Runs in its environment (setup.sh litgpt).

    python -m benchmarks.training_speed.peer_litgpt SPEC.json OUT.json

`litgpt.finetune.full.fit` and `litgpt.finetune.lora.fit` are called as their `main` calls them, on LitGPT's own model with the
same weights (its converter), its collator, AdamW (fused) at a constant rate; its generated example and its validation after
the first two batches never run. Its loop has no clipping. It has neither length groups nor packing for fine-tuning: padded batches in one, two or four
micro-batches are tried. The embedding is tied as in the others (its pre-training script's `tie_embeddings`).
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.training_speed import hf_side
from benchmarks.training_speed.cells import STEP_ROWS
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import fingerprint

MICRO_BATCHES = {"padded": 1, "padded_8x2": 2, "padded_4x4": 4, "in_order": 1}


def lit_config(folder: str) -> dict[str, Any]:
    """LitGPT's settings of the Llama in a transformers folder."""
    hf = json.loads((Path(folder) / "config.json").read_text())
    return {
        "name": "llama",
        "block_size": hf["max_position_embeddings"],
        "n_layer": hf["num_hidden_layers"],
        "n_embd": hf["hidden_size"],
        "n_head": hf["num_attention_heads"],
        "n_query_groups": hf["num_key_value_heads"],
        "vocab_size": hf["vocab_size"],
        "padded_vocab_size": hf["vocab_size"],
        "intermediate_size": hf["intermediate_size"],
        "norm_class_name": "RMSNorm",
        "norm_eps": hf["rms_norm_eps"],
        "mlp_class_name": "LLaMAMLP",
        "rotary_percentage": 1.0,
        "rope_base": round(hf["rope_parameters"]["rope_theta"]),
        "parallel_residual": False,
        "bias": False,
    }


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch and return what was measured."""
    import lightning
    import torch
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data.base import get_sft_collate_fn
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
    from safetensors.torch import load_file
    from torch.utils.data import DataLoader

    lora = spec["cell"]["adapter"] == "lora"
    if lora:
        from litgpt.finetune import lora as script
        from litgpt.lora import GPT, Config, mark_only_lora_as_trainable
    else:
        from litgpt.finetune import full as script
        from litgpt.model import GPT, Config

    torch.set_num_threads(spec["threads"])
    columns = hf_side.columns(spec)
    fabric = lightning.Fabric(devices=1, accelerator="cpu", precision=spec["dtype"])
    fabric.seed_everything(0)
    everywhere = {f"lora_{part}": True for part in ("query", "key", "value", "projection", "mlp")}
    config = Config(**lit_config(spec["model"]), **({"lora_r": 16, "lora_alpha": 32, **everywhere} if lora else {}))
    state: dict[str, Any] = {}
    copy_weights_hf_llama(config, {}, state, load_file(Path(spec["model"]) / "model.safetensors"))
    with fabric.init_module(empty_init=False):
        model = GPT(config)
    missing = model.load_state_dict(state, strict=False).missing_keys
    if [name for name in missing if "lora_" not in name]:
        raise RuntimeError(f"LitGPT's model has weights that the folder has not: {missing}")
    head, table = (model.lm_head.linear if lora else model.lm_head), model.transformer.wte
    head.weight = table.weight
    del state
    if lora:
        mark_only_lora_as_trainable(model)

    samples = [
        {"input_ids": torch.tensor(row), "labels": torch.tensor(labels), "token_counts": {"raw": len(row), "raw_plus_prompt_template": len(row)}}
        for row, labels in zip(columns["input_ids"], columns["labels"], strict=True)
    ]  # fmt: skip
    collate = get_sft_collate_fn(max_seq_length=spec["cell"]["cut"])
    counts: list[int] = []

    def counted(batch: list[dict[str, Any]]) -> Any:
        counts.append(sum(len(sample["input_ids"]) for sample in batch))
        return collate(batch)

    passes = MICRO_BATCHES[spec["option"]]
    batches = DataLoader(
        samples, batch_size=STEP_ROWS // passes, shuffle=spec["option"] != "in_order", collate_fn=counted
    )
    held_out = fabric.setup_dataloaders(DataLoader(samples[:2], batch_size=1, collate_fn=collate))
    quiet = gemm_gflops()
    meter = Meter()
    losses: list[float] = []

    class Rate:
        """In the scheduler's place: a constant rate. The loop calls it as an optimiser step ends."""

        done = 0

        def step(self) -> None:
            until = self.done + passes
            meter.step(sum(counts[self.done : until]), sum(losses[self.done : until]) / passes)
            self.done = until

        def get_last_lr(self) -> list[float]:
            return [spec["lr"]]

    def log(metrics: dict[str, Any], step: int | None = None) -> None:
        pass  # a logger is a file; nobody's is timed

    steps = len(batches) // passes
    fabric.log_dict = log  # type: ignore[method-assign]
    backward = fabric.backward

    def with_loss(loss: Any, **rest: Any) -> None:
        losses.append(loss.item() * passes)
        backward(loss, **rest)

    fabric.backward = with_loss  # type: ignore[method-assign]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=spec["lr"], weight_decay=0.0, fused=True)
    model = fabric.setup_module(model)
    optimizer = fabric.setup_optimizers(optimizer)
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "fabric": fabric,
            "train_dataloader": fabric.setup_dataloaders(batches),
            "val_dataloader": held_out,
            "devices": 1,
            "train": TrainArgs(
                save_interval=None, log_interval=10**9, global_batch_size=STEP_ROWS, micro_batch_size=STEP_ROWS // passes,
                lr_warmup_steps=0, epochs=2, max_steps=steps,
            ),
            "eval": EvalArgs(interval=10**9, initial_validation=False, final_validation=False),
            "data": None,
            "checkpoint_dir": Path(spec["model"]),
            "out_dir": Path(folder),
        }  # fmt: skip
        if lora:
            script.fit(model=model, optimizer=optimizer, scheduler=Rate(), **common)
        else:
            whole = {"model": model, "optimizer": optimizer, "scheduler": Rate(), "iter_num": 0, "step_count": 0}
            script.fit(state=whole, resume=False, **common)
    return {
        **meter.report(),
        "side": "litgpt",
        "gemm_gflops": [quiet, gemm_gflops()],
        "option": spec["option"],
        "dtype": spec["dtype"],
        "rows": fingerprint(columns["input_ids"]),
        "trainable": sum(p.numel() for p in trained),
        "versions": {name: version(name) for name in ("torch", "lightning", "litgpt")},
    }


if __name__ == "__main__":
    hf_side.run(main, sys.argv)
