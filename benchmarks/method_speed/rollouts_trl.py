"""The peer's side of grpo and gkd: TRL's GRPOTrainer or DistillationTrainer on the same prompts, with Hugging Face's generate.

python -m benchmarks.method_speed.rollouts_trl SPEC.json OUT.json
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.method_speed.cases import ANSWER_TOKENS, ANSWERS, KL, STEP_PROMPTS, paid, prompts
from benchmarks.method_speed.trl_side import Peer


def main(spec_file: str, out_file: str) -> None:
    """Train one pass over the prompts and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    peer = Peer(spec)

    import datasets
    import torch
    import trl
    from transformers import AutoModelForCausalLM, GenerationMixin

    given = prompts(peer.work, spec["num"])
    taught = peer.case["method"] == "gkd"
    texts = [peer.tokenizer.decode(ids) for ids in given]
    # GRPOTrainer answers each prompt eight times by itself; the other trainer once, so a prompt comes eight times
    asked = [text for text in texts for _ in range(ANSWERS)] if taught else texts
    settings = {
        "per_device_train_batch_size": STEP_PROMPTS * ANSWERS,
        **({"beta": 0.5} if taught else {"beta": KL, "num_generations": ANSWERS}),
        "max_completion_length": ANSWER_TOKENS,
        "temperature": 1.0,
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

    judge = {"teacher_model": spec["model"]} if taught else {"reward_funcs": reward}
    trainer_of, config_of = (
        (trl.DistillationTrainer, trl.DistillationConfig) if taught else (trl.GRPOTrainer, trl.GRPOConfig)
    )
    report = peer.run(
        trainer_of, config_of, settings, model=AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32),
        train_dataset=datasets.Dataset.from_dict({"prompt": asked}), rows=given, units=len(given), step=STEP_PROMPTS, **judge,
    )  # fmt: skip
    rollouts = {
        "rollout_tokens_per_second": sampled["tokens"] / sampled["seconds"],
        "rollout_tokens": sampled["tokens"],
    }
    Path(out_file).write_text(json.dumps(report | rollouts))


if __name__ == "__main__":
    main(*sys.argv[1:])
