"""The peer's side, whichever trainer of TRL's it is: start, clock, report. Runs in the peer's own environment.

peer = Peer(spec)                                       # threads, seed, the model's tokenizer
report = peer.run(trl.DPOTrainer, trl.DPOConfig, settings, model=model, train_dataset=dataset, rows=..., units=..., step=16)
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.method_speed.cases import OPTIONS
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import fingerprint
from benchmarks.training_speed.trl_settings import common

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Peer:
    """One run of the peer; `spec` is what both sides are told."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import torch
        from transformers import AutoTokenizer

        self.spec, self.case, self.work = spec, spec["case"], Path(spec["work"])
        torch.set_num_threads(spec["threads"])
        torch.manual_seed(0)
        self.tokenizer = AutoTokenizer.from_pretrained(spec["model"])

    def run(
        self, trainer_of: Any, config_of: Any, settings: dict[str, Any], *, model: Any, rows: list[list[int]], units: int,
        step: int, task: str = "CAUSAL_LM", saved: list[str] | None = None, losses: bool = False, **given: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Train one epoch: what was measured.

        rows, units, step   what the rows' hash is made of, units of the whole run and of a step
        task, saved, losses LoRA's task and modules trained whole; whether the steps' losses are taken from the trainer's log
        """
        import datasets
        import peft
        import torch
        import transformers
        import trl

        class Clock(transformers.TrainerCallback):
            """A step has ended."""

            def on_step_end(self, args, state, control, **rest):
                meter.step(step)

        model.config.pad_token_id = self.tokenizer.pad_token_id
        lora = peft.LoraConfig(
            r=16, lora_alpha=32, lora_dropout=0.0, target_modules=TARGETS, task_type=task, modules_to_save=saved
        )
        with tempfile.TemporaryDirectory() as folder:
            config = config_of(
                output_dir=folder, **{**common(self.spec["lr"]), **settings, **OPTIONS[self.spec["option"]]}
            )
            quiet = gemm_gflops()
            meter = Meter()
            started = time.perf_counter()
            trainer = trainer_of(
                model=model,
                args=config,
                processing_class=self.tokenizer,
                peft_config=lora if self.case["adapter"] == "lora" else None,
                callbacks=[Clock()],
                **given,
            )
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
            whole = time.perf_counter() - started
        if losses:
            found = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            meter.steps = [(moment, units, loss) for (moment, units, _), loss in zip(meter.steps, found, strict=True)]
        return meter.report() | {
            "side": "trl",
            "units_per_second": units / whole,
            "option": self.spec["option"],
            "gemm_gflops": [quiet, gemm_gflops()],
            "rows": fingerprint(rows),
            "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl, peft, datasets)},
        }
