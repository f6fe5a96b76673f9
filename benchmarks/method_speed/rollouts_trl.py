"""The peer's side of grpo and gkd: TRL's GRPOTrainer or DistillationTrainer on the same prompts, with Hugging Face's generate.

python -m benchmarks.method_speed.rollouts_trl SPEC.json OUT.json
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.method_speed.cases import ANSWER_TOKENS, ANSWERS, KL, OPTIONS, STEP_PROMPTS, paid, prompts
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import fingerprint


def main(spec_file: str, out_file: str) -> None:
    """Train one pass over the prompts and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    case, work = spec["case"], Path(spec["work"])

    import datasets
    import peft
    import torch
    import transformers
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationMixin, TrainerCallback

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    model.config.pad_token_id = tokenizer.pad_token_id
    given = prompts(work, spec["num"])
    taught = case["method"] == "gkd"
    texts = [tokenizer.decode(ids) for ids in given]
    # GRPOTrainer answers each prompt eight times by itself; the other trainer once, so a prompt comes eight times
    dataset = datasets.Dataset.from_dict(
        {"prompt": [text for text in texts for _ in range(ANSWERS)] if taught else texts}
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
    settings = {
        "per_device_train_batch_size": STEP_PROMPTS * ANSWERS,
        **({"beta": 0.5} if taught else {"beta": KL, "num_generations": ANSWERS}),
        "max_completion_length": ANSWER_TOKENS,
        "temperature": 1.0,
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
        **OPTIONS[spec["option"]],
    }
    sampled = {"seconds": 0.0, "tokens": 0}
    plain = GenerationMixin.generate

    def timed(self, *args, **kwargs):
        began = time.perf_counter()
        made = plain(self, *args, **kwargs)
        sampled["seconds"] += time.perf_counter() - began
        asked = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        sampled["tokens"] += (made.shape[1] - asked.shape[1]) * made.shape[0]
        return made

    GenerationMixin.generate = timed

    def reward(completions, **rest):
        return [paid(text) for text in completions]

    class Clock(TrainerCallback):
        """A step has ended."""

        def on_step_end(self, args, state, control, **rest):
            meter.step(STEP_PROMPTS)

    with tempfile.TemporaryDirectory() as folder:
        config = (trl.DistillationConfig if taught else trl.GRPOConfig)(output_dir=folder, **settings)
        judge = {"teacher_model": spec["model"]} if taught else {"reward_funcs": reward}
        quiet = gemm_gflops()
        meter = Meter()
        started = time.perf_counter()
        trainer = (trl.DistillationTrainer if taught else trl.GRPOTrainer)(
            model=model,
            **judge,
            args=config,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=lora if case["adapter"] == "lora" else None,
            callbacks=[Clock()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        whole = time.perf_counter() - started
    report = meter.report() | {
        "side": "trl",
        "units_per_second": len(given) / whole,
        "rollout_tokens_per_second": sampled["tokens"] / sampled["seconds"],
        "rollout_tokens": sampled["tokens"],
        "option": spec["option"],
        "gemm_gflops": [quiet, gemm_gflops()],
        "rows": fingerprint(given),
        "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl, peft, datasets)},
    }
    Path(out_file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
