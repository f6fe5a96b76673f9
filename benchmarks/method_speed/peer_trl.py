"""The peer's side of one run: TRL's DPOTrainer or RewardTrainer on the fixed pairs, already tokens.

python -m benchmarks.method_speed.peer_trl SPEC.json OUT.json
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.method_speed.cases import CUT, OPTIONS, STEP_PAIRS, pairs
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import fingerprint


def main(spec_file: str, out_file: str) -> None:
    """Train one epoch and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    case, work = spec["case"], Path(spec["work"])

    import datasets
    import peft
    import torch
    import transformers
    import trl
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    scores = case["method"] == "reward"
    if scores:
        model = AutoModelForSequenceClassification.from_pretrained(spec["model"], num_labels=1, dtype=torch.float32)
        model.score.weight.data.copy_(torch.tensor(spec["head"]))
    else:
        model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    model.config.pad_token_id = tokenizer.pad_token_id
    given = pairs(work, spec["num_pairs"])
    if scores:
        columns = {"chosen_ids": [p + a for p, a, _ in given], "rejected_ids": [p + b for p, _, b in given]}
    else:
        columns = dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), map(list, zip(*given))))
    dataset = datasets.Dataset.from_dict(columns)
    task = "SEQ_CLS" if scores else "CAUSAL_LM"
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    saved = ["score"] if scores else None
    lora = peft.LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets, task_type=task, modules_to_save=saved
    )
    settings = {
        "max_length": CUT,
        "per_device_train_batch_size": STEP_PAIRS,
        "num_train_epochs": 1,
        "learning_rate": spec["lr"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
        **({"train_sampling_strategy": "sequential"} if spec.get("in_order") else {}),
        **OPTIONS[spec["option"]],
    }
    trainer_of, config_of = (trl.RewardTrainer, trl.RewardConfig) if scores else (trl.DPOTrainer, trl.DPOConfig)

    class Ready(trainer_of):
        """The rows are tokens already: there is nothing to prepare."""

        def _prepare_dataset(self, dataset, *rest):
            return dataset

    class Clock(TrainerCallback):
        """A step has ended."""

        def on_step_end(self, args, state, control, **rest):
            meter.step(STEP_PAIRS)

    with tempfile.TemporaryDirectory() as folder:
        config = config_of(output_dir=folder, **settings)
        quiet = gemm_gflops()
        meter = Meter()
        started = time.perf_counter()
        trainer = Ready(
            model=model,
            args=config,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=lora if case["adapter"] == "lora" else None,
            callbacks=[Clock()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        whole = time.perf_counter() - started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    meter.steps = [(moment, units, loss) for (moment, units, _), loss in zip(meter.steps, losses, strict=True)]
    report = meter.report() | {
        "side": "trl",
        "units_per_second": len(given) / whole,
        "option": spec["option"],
        "gemm_gflops": [quiet, gemm_gflops()],
        "rows": fingerprint([ids for pair in given for ids in pair]),
        "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl, peft, datasets)},
    }
    Path(out_file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
