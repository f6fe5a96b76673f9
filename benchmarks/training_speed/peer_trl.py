"""The peer's side of one run: TRL's SFTTrainer on the fixed rows. Runs in the peer's own environment (setup.sh).

    python -m benchmarks.training_speed.peer_trl SPEC.json OUT.json

Options tried: padding, packing ("bfd"), length groups, length groups with two micro-batches, padding-free; weights in
bf16, bf16 autocast over fp32 weights, and both. Gradient checkpointing, TRL's default, is off: it costs speed.
"""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.training_speed.cells import STEP_ROWS
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import answer_start, fingerprint, load
from benchmarks.training_speed.trl_settings import common

# name -> what it sets. {cut} is the cell's longest row.
BATCHING = {
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "group_by_length_8x2": {
        "train_sampling_strategy": "group_by_length",
        "per_device_train_batch_size": STEP_ROWS // 2,
        "gradient_accumulation_steps": 2,
    },
    "padding_free": {"padding_free": True, "max_length": None},
    "packing": {"packing": True, "packing_strategy": "bfd"},
    "padded": {},
    "in_order": {"train_sampling_strategy": "sequential"},  # to compare losses, never timed
}
PRECISIONS = {
    "fp32": {"fp32": ("float32", False)},
    "bf16": {"weights": ("bfloat16", False), "autocast": ("float32", True), "weights+autocast": ("bfloat16", True)},
}


def main(spec_file: str, out_file: str) -> None:
    """Train one epoch and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    cell, work = spec["cell"], Path(spec["work"])

    import datasets
    import peft
    import torch
    import transformers
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    torch.set_num_threads(spec["threads"])
    dtype_name, autocast = PRECISIONS[cell["precision"]][spec["dtype"]]
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=getattr(torch, dtype_name))
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    rows = load(work, cut=cell["cut"], num=spec["num_rows"])
    columns = {"input_ids": rows}
    if cell["answers"]:
        columns["labels"] = [[-100] * answer_start(row) + row[answer_start(row) :] for row in rows]
    dataset = datasets.Dataset.from_dict(columns)

    batching = dict(BATCHING[spec["option"]])
    if batching.get("packing"):  # as many tokens a step as sixteen average rows
        batching["per_device_train_batch_size"] = max(1, round(spec["step_tokens"] / cell["cut"]))
    lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    settings = {
        **common(spec["lr"]),
        "max_length": cell["cut"],
        "per_device_train_batch_size": STEP_ROWS,
        "bf16": autocast,
        **batching,
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
            peft_config=lora if cell["adapter"] == "lora" else None,
            callbacks=[clock],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        clock.trainer = trainer
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    meter.steps = [(moment, tokens, loss) for (moment, tokens, _), loss in zip(meter.steps, losses, strict=True)]
    report = meter.report()
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    report |= {
        "side": "trl",
        "gemm_gflops": [quiet, gemm_gflops()],
        "option": spec["option"],
        "dtype": spec["dtype"],
        "rows": fingerprint(rows),
        "trainable": trainable,
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl, peft, datasets)},
    }
    Path(out_file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
