"""Records what TRL's GRPO loss, group advantages and generalised JSD give for numbers written here: trl_sampling.json.

Run with a Python that has TRL 1.16:   python tests/objectives/record_trl_sampling.py

TRL's own functions are called unbound, with a stand-in for the trainer that returns the given log-probabilities.
"""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl.experimental.gkd import GKDTrainer
from trl.trainer.grpo_trainer import GRPOTrainer

LENGTHS = [3, 5, 1, 4, 2, 6]  # tokens of each answer: two groups of three
ADVANTAGES = [0.7, -1.1, 0.4, 1.2, -0.3, -0.9]
MASKED = 3  # this answer was cut at the limit
MAX_TOKENS = 8
CASES = {
    "grpo": {"loss_type": "grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "dapo": {"loss_type": "dapo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "grpo_masked": {"loss_type": "grpo", "masked": True},
    "dapo_masked": {"loss_type": "dapo", "masked": True},
    "dr_grpo_masked": {"loss_type": "dr_grpo", "masked": True},
    "clip_high": {"loss_type": "dapo", "epsilon_high": 0.28},
    "no_kl": {"loss_type": "dapo", "beta": 0.0},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
}


def draw(generator, scale):
    return [[round(v, 6) for v in (-scale * torch.rand(n, generator=generator) - 0.01).tolist()] for n in LENGTHS]


def near(rows, generator, by):
    return [[round(v + by * (2 * float(torch.rand(1, generator=generator)) - 1), 6) for v in row] for row in rows]


def padded(rows):
    out = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.float64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return out


def grpo(given, *, loss_type, beta=0.04, epsilon_high=0.2, importance_sampling_level="token", masked=False):
    leaf = padded(given["logp"]).requires_grad_(True)
    mask = padded([[1.0] * n for n in LENGTHS])
    if masked:
        mask[MASKED] = 0
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True, gather_for_metrics=lambda x: x
    )  # fmt: skip
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (leaf, torch.zeros_like(leaf), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, beta=beta,
        importance_sampling_level=importance_sampling_level, loss_type=loss_type, epsilon_low=0.2,
        epsilon_high=epsilon_high, use_vllm=False, _entropy_bonus_enabled=False, accelerator=accelerator,
        max_completion_length=MAX_TOKENS, current_gradient_accumulation_steps=1, model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.zeros(len(LENGTHS), 1, dtype=torch.long), "prompt_mask": torch.ones(len(LENGTHS), 1),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long), "completion_mask": mask,
        "advantages": torch.tensor(ADVANTAGES, dtype=torch.float64), "old_per_token_logps": padded(given["old"]),
        "ref_per_token_logps": padded(given["reference"]), "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    (gradient,) = torch.autograd.grad(loss, [leaf])
    return {"loss": loss.item(), "gradient": [row[:n].tolist() for row, n in zip(gradient, LENGTHS)]}


def main():
    generator = torch.Generator().manual_seed(0)
    old = draw(generator, 3.0)
    given = {
        "lengths": LENGTHS, "advantages": ADVANTAGES, "masked": MASKED, "max_tokens": MAX_TOKENS,
        "old": old, "logp": near(old, generator, 0.5), "reference": near(old, generator, 0.8),
    }  # fmt: skip
    student = (2 * torch.randn(5, 11, generator=generator, dtype=torch.float64)).round(decimals=4)
    teacher = (2 * torch.randn(5, 11, generator=generator, dtype=torch.float64)).round(decimals=4)
    jsd = {}
    for beta in (0.0, 0.1, 0.5, 0.9, 1.0):
        for temperature in (1.0, 2.0):
            leaf = student.clone()[None].requires_grad_(True)
            loss = GKDTrainer.generalized_jsd_loss(
                leaf, teacher[None], beta=beta, temperature=temperature, reduction="sum"
            )
            (gradient,) = torch.autograd.grad(loss, [leaf])
            jsd[f"{beta} {temperature}"] = {"loss": loss.item(), "gradient": gradient[0].tolist()}
    out = {
        "trl": trl.__version__, "given": given, "cases": CASES, "grpo": {name: grpo(given, **c) for name, c in CASES.items()},
        "student": student.tolist(), "teacher": teacher.tolist(), "jsd": jsd,
    }  # fmt: skip
    Path(__file__).with_name("trl_sampling.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
