"""The peer's side of one run: TRL's SFTTrainer on the fixed rows. Runs in the peer's own environment (setup.sh).

    python -m benchmarks.training_speed.peer_trl SPEC.json OUT.json

Options tried: padding, packing ("bfd"), length groups, length groups with two micro-batches, padding-free; weights in
bf16, bf16 autocast over fp32 weights, and both. Gradient checkpointing, TRL's default, is off: it costs speed.
"""

import sys
import tempfile
from typing import Any

from benchmarks.training_speed import hf_side
from benchmarks.training_speed.cells import STEP_ROWS
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.trl_settings import common

LAYOUTS: dict[str, dict[str, Any]] = {
    "group_by_length": hf_side.LENGTH_GROUPS,
    "group_by_length_8x2": hf_side.LENGTH_GROUPS | hf_side.TWO_PASSES,
    "padding_free": {"padding_free": True, "max_length": None},
    "packing": {"packing": True, "packing_strategy": "bfd"},
    "padded": {},
    "in_order": {"train_sampling_strategy": "sequential"},  # to compare losses, never timed
}


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch and return what was measured."""
    import datasets
    import peft
    import torch
    import transformers
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    cell = spec["cell"]
    torch.set_num_threads(spec["threads"])
    dtype_name, autocast = hf_side.PRECISIONS[spec["dtype"]]
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=getattr(torch, dtype_name))
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    columns = hf_side.columns(spec)
    rows = columns["input_ids"]
    if not cell["answers"]:
        del columns["labels"]
    dataset = datasets.Dataset.from_dict(columns)

    layout = dict(LAYOUTS[spec["option"]])
    if layout.get("packing"):  # as many tokens a step as sixteen average rows
        layout["per_device_train_batch_size"] = max(1, round(spec["step_tokens"] / cell["cut"]))
    settings = {
        **common(spec["lr"]),
        "max_length": cell["cut"],
        "per_device_train_batch_size": STEP_ROWS,
        "bf16": autocast,
        **layout,
    }

    class Clock(TrainerCallback):
        """Counts the tokens of each optimiser step; TRL's own counter holds the non-padding ones."""

        trainer: trl.SFTTrainer
        counted = 0

        def on_step_end(self, args, state, control, **rest):
            total = self.trainer._total_train_tokens
            meter.step(total - self.counted)
            self.counted = total

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = trl.SFTConfig(output_dir=folder, **settings)
        quiet = gemm_gflops()
        meter = Meter()
        trainer = trl.SFTTrainer(
            model=model,
            args=config,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=peft.LoraConfig(**hf_side.LORA) if cell["adapter"] == "lora" else None,
            callbacks=[clock],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        clock.trainer = trainer
        trainer.train()
    used = [torch, transformers, trl, peft, datasets]
    return hf_side.report(trainer, meter, side="trl", spec=spec, rows=rows, quiet=quiet, used=used)


if __name__ == "__main__":
    hf_side.run(main, sys.argv)
