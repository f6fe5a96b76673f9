"""The peer's side of one run: transformers' own Trainer, with PEFT's LoRA. Runs in the environment of TRL (setup.sh).

    python -m benchmarks.training_speed.peer_hf SPEC.json OUT.json

Options tried: padding, length groups, length groups in two micro-batches; precisions as in peer_trl.py.
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
    "padded": {},
    "in_order": {"train_sampling_strategy": "sequential"},  # to compare losses, never timed
}


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch and return what was measured."""
    import datasets
    import peft
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    torch.set_num_threads(spec["threads"])
    dtype_name, autocast = hf_side.PRECISIONS[spec["dtype"]]
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=getattr(torch, dtype_name))
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    columns = hf_side.columns(spec)
    rows = columns["input_ids"]
    dataset = datasets.Dataset.from_dict({**columns, "attention_mask": [[1] * len(row) for row in rows]})
    settings = {
        **common(spec["lr"]),
        "per_device_train_batch_size": STEP_ROWS,
        "bf16": autocast,
        **LAYOUTS[spec["option"]],
    }

    with tempfile.TemporaryDirectory() as folder:
        quiet = gemm_gflops()
        meter = Meter()
        if spec["cell"]["adapter"] == "lora":
            model = peft.get_peft_model(model, peft.LoraConfig(**hf_side.LORA))
        counted = hf_side.Counted(DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100))
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=folder, **settings),
            train_dataset=dataset,
            data_collator=counted,
            callbacks=[hf_side.clock(meter, counted)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    used = [torch, transformers, peft, datasets]
    return hf_side.report(trainer, meter, side="hf", spec=spec, rows=rows, quiet=quiet, used=used)


if __name__ == "__main__":
    hf_side.run(main, sys.argv)
