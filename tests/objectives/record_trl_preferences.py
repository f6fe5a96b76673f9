"""Records what TRL's preference losses give, value and gradient, for log-probabilities written here: trl_preferences.json.

Run with a Python that has TRL 1.16:   python tests/objectives/record_trl_preferences.py

TRL's own functions are called unbound, with a stand-in for the trainer and a model that returns the given log-probabilities.
"""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer

LENGTHS = [(3, 5), (1, 2), (6, 4), (2, 2), (7, 1)]  # tokens of the chosen and the rejected answer
LABELS = [True, False, True, True, False, False, True, False, False, True]


def draw(lengths, generator, scale):
    return [(-scale * torch.rand(n, generator=generator, dtype=torch.float64) - 0.01).tolist() for n in lengths]


def rounded(values):
    return [[round(v, 6) for v in row] for row in values]


def padded(rows):
    """(rows, longest) in fp64 that can be differentiated, and the mask."""
    longest = max(map(len, rows))
    values = torch.zeros(len(rows), longest, dtype=torch.float64)
    mask = torch.zeros(len(rows), longest)
    for i, row in enumerate(rows):
        values[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        mask[i, : len(row)] = 1
    return values.requires_grad_(True), mask


class Accelerator:
    device = torch.device("cpu")

    def gather(self, value):
        return value

    gather_for_metrics = gather


def stand_in(**facts):
    common = {
        "model": SimpleNamespace(training=True), "accelerator": Accelerator(), "aux_loss_enabled": False, "use_weighting": False,
        "_metrics": {"train": defaultdict(list)}, "_total_train_tokens": 0, "_tp_size": 1, "ld_alpha": None,
        "f_divergence_type": "reverse_kl", "precompute_ref_logps": True,
    }  # fmt: skip
    return SimpleNamespace(**{**common, **facts})


def outputs(values, mask):
    zero = torch.zeros_like(values)
    return SimpleNamespace(log_probs=values * mask, entropy=zero, mean_logits=zero, is_top1=zero.bool())


def answer(loss, leaves, given):
    """Loss, and the gradient with respect to each token's log p."""
    gradients = torch.autograd.grad(loss, leaves)
    cut = [[g[i, : len(row)].tolist() for i, row in enumerate(rows)] for g, rows in zip(gradients, given)]
    return {"loss": loss.item(), "gradients": cut}


def dpo(given, **settings):
    chosen, rejected = given["chosen"], given["rejected"]
    values, mask = padded(chosen + rejected)
    whole = torch.cat([torch.zeros(len(mask), 1), mask], dim=1)  # one token of prompt, then the answer
    inputs = {
        "input_ids": torch.ones_like(whole).long(), "attention_mask": torch.ones_like(whole), "completion_mask": whole,
        "ref_chosen_logps": torch.tensor([sum(r) for r in given["ref_chosen"]], dtype=torch.float64),
        "ref_rejected_logps": torch.tensor([sum(r) for r in given["ref_rejected"]], dtype=torch.float64),
    }  # fmt: skip
    facts = {"beta": 0.1, "loss_types": ["sigmoid"], "loss_weights": [1.0], "label_smoothing": 0.0, **settings}
    trainer = stand_in(**facts)
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs(values, mask), inputs, False)
    found = answer(loss, [values], [chosen + rejected])
    return {**found, "metrics": {key: value[0] for key, value in trainer._metrics["train"].items() if value}}


def cpo(given, use_reference, mean, **settings):
    """TRL's CPO trainer: SimPO, and cDPO as its smoothed sigmoid over log ratios."""
    chosen, rejected = given["chosen"], given["rejected"]
    values, mask = padded(chosen + rejected)
    sums = (values * mask).sum(1)
    if use_reference:
        sums = sums - torch.tensor([sum(r) for r in given["ref_chosen"] + given["ref_rejected"]], dtype=torch.float64)
    if mean:
        sums = sums / mask.sum(1)
    zero = torch.zeros(1)
    trainer = stand_in(
        alpha=0.0, cpo_alpha=0.0, **settings,
        concatenated_forward=lambda *_: (*sums.chunk(2), zero, zero, zero),
    )  # fmt: skip
    trainer.cpo_loss = lambda *two: CPOTrainer.cpo_loss(trainer, *two)
    loss, _ = CPOTrainer.get_batch_loss_metrics(trainer, None, {})
    return answer(loss, [values], [chosen + rejected])


def orpo(given, beta):
    """The token term is over the answer's tokens, as the paper has it; TRL's forward pass takes the prompt's with them."""
    chosen, rejected = given["chosen"], given["rejected"]
    values, mask = padded(chosen + rejected)
    means = (values * mask).sum(1) / mask.sum(1)
    pairs = len(chosen)
    nll = -(values * mask)[:pairs].sum() / mask[:pairs].sum()
    zero = torch.zeros(1)
    trainer = stand_in(beta=beta, concatenated_forward=lambda *_: (*means.chunk(2), zero, zero, nll))
    trainer.odds_ratio_loss = lambda *two: ORPOTrainer.odds_ratio_loss(trainer, *two)
    loss, _ = ORPOTrainer.get_batch_loss_metrics(trainer, None, {})
    return answer(loss, [values], [chosen + rejected])


def kto(given, **settings):
    answers = given["chosen"] + given["rejected"]
    values, mask = padded(answers)
    whole = torch.cat([torch.zeros(len(mask), 1), mask], dim=1)
    inputs = {
        "input_ids": torch.ones_like(whole).long(), "attention_mask": torch.ones_like(whole), "completion_mask": whole,
        "label": torch.tensor(LABELS),
        "ref_logps": torch.tensor([sum(r) for r in given["ref_chosen"] + given["ref_rejected"]], dtype=torch.float64),
        "ref_KL_logps": torch.tensor([sum(r) for r in given["ref_mismatched"]], dtype=torch.float64),
    }  # fmt: skip
    moved = torch.tensor([sum(r) for r in given["mismatched"]], dtype=torch.float64)
    trainer = stand_in(loss_type="kto", calculate_KL=True, _compute_kl_logps=lambda *_: moved, **settings)
    loss = KTOTrainer._compute_loss(trainer, lambda **_: outputs(values, mask), inputs, False)
    return {**answer(loss, [values], [answers]), "kl": trainer._metrics["train"]["kl"][0]}


def reward(given, coefficient, margins):
    scores = torch.tensor(given["scores"], dtype=torch.float64).T.reshape(-1, 1).requires_grad_(True)
    inputs = {"attention_mask": torch.ones(len(scores), 1)}
    if margins:
        inputs["margin"] = torch.tensor(given["margins"], dtype=torch.float64)
    trainer = stand_in(args=SimpleNamespace(center_rewards_coefficient=coefficient))
    loss = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=scores), dict(inputs))
    (gradient,) = torch.autograd.grad(loss, [scores])
    facts = {key: trainer._metrics["train"][key][0] for key in ("accuracy", "margin")}
    return {"loss": loss.item(), "gradients": gradient.reshape(2, -1).T.tolist(), **facts}


def main():
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = zip(*LENGTHS)
    others = [4, 2, 3, 1, 6, 2, 5, 3, 2, 4]
    given = {
        "chosen": rounded(draw(chosen, generator, 2.0)), "rejected": rounded(draw(rejected, generator, 2.0)),
        "ref_chosen": rounded(draw(chosen, generator, 2.5)), "ref_rejected": rounded(draw(rejected, generator, 1.5)),
        "mismatched": rounded(draw(others, generator, 1.8)), "ref_mismatched": rounded(draw(others, generator, 2.2)),
        "labels": LABELS,
        "scores": [[0.3, -0.2], [1.5, 1.9], [-0.7, -2.0], [0.0, 0.0], [2.2, -1.1]], "margins": [0.0, 0.5, 1.0, 0.25, 2.0],
    }  # fmt: skip
    low = {**given, "mismatched": given["ref_mismatched"], "ref_mismatched": given["mismatched"]}
    found = {
        "dpo sigmoid": dpo(given),
        "dpo sigmoid beta 0.5": dpo(given, beta=0.5),
        "dpo hinge": dpo(given, loss_types=["hinge"]),
        "dpo ipo": dpo(given, loss_types=["ipo"]),
        "dpo robust": dpo(given, loss_types=["robust"], label_smoothing=0.2),
        "dpo per token": dpo(given, loss_types=["sigmoid_norm"]),
        "dpo with sft": dpo(given, loss_types=["sigmoid", "sft"], loss_weights=[1.0, 0.5]),
        "dpo cdpo": cpo(given, True, False, loss_type="sigmoid", beta=0.1, label_smoothing=0.2),
        "simpo": cpo(given, False, True, loss_type="simpo", beta=2.0, simpo_gamma=1.0, label_smoothing=0.0),
        "orpo": orpo(given, 0.1),
        "kto": kto(given, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0),
        "kto weights": kto(given, beta=0.3, desirable_weight=1.5, undesirable_weight=0.7),
        "kto kl clamped": kto(low, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0),
        "reward": reward(given, None, False),
        "reward margin": reward(given, None, True),
        "reward centred": reward(given, 0.01, True),
    }
    path = Path(__file__).with_name("trl_preferences.json")
    path.write_text(json.dumps({"trl": trl.__version__, "given": given, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
