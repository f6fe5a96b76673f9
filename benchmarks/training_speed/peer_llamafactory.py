"""The peer's side of one run: LLaMA-Factory's own `run_exp` on the fixed rows. Runs in its environment (setup.sh llamafactory).

    python -m benchmarks.training_speed.peer_llamafactory SPEC.json OUT.json

The rows reach it as a data set that is tokenised already (its `tokenized_path`). Options tried: padding, length groups, length
groups in two micro-batches, and its packing without attention across rows (`neat_packing`), cut by its own processor. bf16 is
autocast, with what trains in fp32: its `pure_bf16` refuses a machine without a GPU. Gradient checkpointing is off.
"""

import sys
import tempfile
from types import SimpleNamespace
from typing import Any

from benchmarks.training_speed import hf_side
from benchmarks.training_speed.cells import STEP_ROWS
from benchmarks.training_speed.llamafactory_side import Started, without_sound
from benchmarks.training_speed.measure import gemm_gflops
from benchmarks.training_speed.trl_settings import common

LAYOUTS: dict[str, dict[str, Any]] = {
    "group_by_length": hf_side.LENGTH_GROUPS,
    "group_by_length_8x2": hf_side.LENGTH_GROUPS | hf_side.TWO_PASSES,
    "neat_packing": {"neat_packing": True, "packing": True},
    "padded": {},
    "in_order": {"train_sampling_strategy": "sequential"},  # to compare losses, never timed
}


def settings(
    *, stage: str, adapter: str, lr: float, model: str, rows: str, out: str, cut: int, bf16: bool = False
) -> dict[str, Any]:
    """What LLaMA-Factory is given in every comparison: rows that are tokens already, LoRA on all linear layers, no checkpointing."""
    lora = {"lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.0, "lora_target": "all"}
    return {
        **common(lr), "model_name_or_path": model, "stage": stage, "do_train": True, "finetuning_type": adapter,
        **(lora if adapter == "lora" else {}), "template": "empty", "dataset": "rows", "tokenized_path": rows, "cutoff_len": cut, "flash_attn": "sdpa",
        "disable_gradient_checkpointing": True, "output_dir": out, "per_device_train_batch_size": STEP_ROWS, "bf16": bf16,
    }  # fmt: skip


def tokenised(columns: dict[str, list[list[int]]], model: str, cut: int, packed: bool) -> Any:
    """The rows as LLaMA-Factory's processors leave them."""
    import datasets

    rows, labels = columns["input_ids"], columns["labels"]
    nothing = [None] * len(rows)
    media = {"images": nothing, "videos": nothing, "audios": nothing}
    if not packed:
        masks = [[1] * len(row) for row in rows]
        return datasets.Dataset.from_dict({**columns, "attention_mask": masks, **media})

    from llamafactory.data.processor.supervised import PackedSupervisedDatasetProcessor
    from transformers import AutoTokenizer

    class Ready(PackedSupervisedDatasetProcessor):
        """Its packing, of ids instead of messages."""

        def _encode_data_example(self, prompt: Any, response: Any, **rest: Any) -> tuple[list[int], list[int]]:
            return prompt[0], response[0]

    # a pack is one token longer than it is told, and its collator fails where that is no multiple of eight
    wants = SimpleNamespace(neat_packing=True, cutoff_len=cut + 7 - cut % 8)
    processor = Ready(template=None, tokenizer=AutoTokenizer.from_pretrained(model), processor=None, data_args=wants)
    given = {"_prompt": [[row] for row in rows], "_response": [[label] for label in labels], "_system": nothing}
    given |= {"_tools": nothing, "_images": nothing, "_videos": nothing, "_audios": nothing}
    return datasets.Dataset.from_dict(dict(processor.preprocess_dataset(given)))


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch and return what was measured."""
    without_sound()
    import datasets
    import llamafactory
    import peft
    import torch
    import transformers
    from llamafactory.train.sft import workflow
    from llamafactory.train.tuner import run_exp

    cell, layout = spec["cell"], dict(LAYOUTS[spec["option"]])
    torch.set_num_threads(spec["threads"])
    columns = hf_side.columns(spec)
    columns["labels"] = [
        [-100, *labels[1:]] for labels in columns["labels"]
    ]  # its loss divides by all that are not -100
    if layout.get("packing"):  # as many tokens a step as sixteen average rows
        layout["per_device_train_batch_size"] = max(1, round(spec["step_tokens"] / cell["cut"]))
    quiet = gemm_gflops()
    counters: list[hf_side.Counted] = []
    started, collator = Started(workflow), workflow.SFTDataCollatorWith4DAttentionMask

    def counting(*args: Any, **rest: Any) -> hf_side.Counted:
        counters.append(hf_side.Counted(collator(*args, **rest)))
        return counters[-1]

    class Clock(transformers.TrainerCallback):
        """Tells the meter of each step and keeps the trainer's state."""

        done = 0
        end: Any = None

        def on_step_end(self, args, state, control, **rest):
            until = self.done + args.gradient_accumulation_steps
            started.meter.step(sum(counters[0].tokens[self.done : until]))
            self.done = until

        def on_train_end(self, args, state, control, model=None, **rest):
            self.end = SimpleNamespace(state=state, model=model)

    clock = Clock()
    workflow.SFTDataCollatorWith4DAttentionMask = counting
    with tempfile.TemporaryDirectory() as folder:
        rows = tokenised(columns, spec["model"], cell["cut"], packed=bool(layout.get("packing")))
        datasets.DatasetDict({"train": rows}).save_to_disk(f"{folder}/rows")
        given = settings(
            stage="sft", adapter=cell["adapter"], lr=spec["lr"], model=spec["model"], rows=f"{folder}/rows", out=f"{folder}/out",
            cut=cell["cut"], bf16=cell["precision"] == "bf16",
        )  # fmt: skip
        run_exp({**given, **layout}, callbacks=[clock])
    used = [torch, transformers, peft, datasets]
    rows = columns["input_ids"]
    found = hf_side.report(clock.end, started.meter, side="llamafactory", spec=spec, rows=rows, quiet=quiet, used=used)
    found["versions"]["llamafactory"] = llamafactory.__version__
    return found


if __name__ == "__main__":
    hf_side.run(main, sys.argv)
