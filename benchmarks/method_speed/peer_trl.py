"""The peer's side of one run: TRL's DPOTrainer or RewardTrainer on the fixed pairs, already tokens.

python -m benchmarks.method_speed.peer_trl SPEC.json OUT.json
"""

import json
import sys
from pathlib import Path

from benchmarks.method_speed.cases import CUT, STEP_PAIRS, pairs
from benchmarks.method_speed.trl_side import Peer


def main(spec_file: str, out_file: str) -> None:
    """Train one epoch and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    peer = Peer(spec)

    import datasets
    import torch
    import trl
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    scores = peer.case["method"] == "reward"
    given = pairs(peer.work, spec["num_pairs"])
    if scores:
        model = AutoModelForSequenceClassification.from_pretrained(spec["model"], num_labels=1, dtype=torch.float32)
        model.score.weight.data.copy_(torch.tensor(spec["head"]))
        columns = {"chosen_ids": [p + a for p, a, _ in given], "rejected_ids": [p + b for p, _, b in given]}
    else:
        model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
        columns = dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), map(list, zip(*given))))
    trainer_of, config_of = (trl.RewardTrainer, trl.RewardConfig) if scores else (trl.DPOTrainer, trl.DPOConfig)

    class Ready(trainer_of):
        """The rows are tokens already: there is nothing to prepare."""

        def _prepare_dataset(self, dataset, *rest):
            return dataset

    settings = {
        "max_length": CUT,
        "per_device_train_batch_size": STEP_PAIRS,
        **({"train_sampling_strategy": "sequential"} if spec.get("in_order") else {}),
    }
    report = peer.run(
        Ready, config_of, settings, model=model, train_dataset=datasets.Dataset.from_dict(columns), step=STEP_PAIRS,
        rows=[ids for pair in given for ids in pair], units=len(given), losses=True,
        task="SEQ_CLS" if scores else "CAUSAL_LM", saved=["score"] if scores else None,
    )  # fmt: skip
    Path(out_file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
