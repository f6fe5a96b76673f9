"""Our side of grpo and gkd: sampled, scored by a reward or a teacher and learnt from in one loop, as `tunesmith train` wires it.

python -m benchmarks.method_speed.rollouts_ours SPEC.json OUT.json
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.method_speed.cases import ANSWER_TOKENS, ANSWERS, KL, STEP_PROMPTS, paid, prompts
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import fingerprint


def main(spec_file: str, out_file: str) -> None:
    """Train one pass over the prompts and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    case, work = spec["case"], Path(spec["work"])

    import torch

    from tunesmith import __version__
    from tunesmith.api.rewards import sampler
    from tunesmith.core.shelf import shelf
    from tunesmith.model.load import load
    from tunesmith.model.teacher import Teacher
    from tunesmith.step.helpers import Helpers, frozen
    from tunesmith.text.encode import Text
    from tunesmith.text.example import Example, Unit
    from tunesmith.train.feed import Rollouts
    from tunesmith.train.loop import loop
    from tunesmith.train.optim import Optimizer
    from tunesmith.train.run import embedding_names

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    model = load(spec["model"])
    given = prompts(work, spec["num"])
    quiet = gemm_gflops()
    meter = Meter()
    started = time.perf_counter()
    shelf("adapters").make({"lora": {"rank": 16, "alpha": 32}} if case["adapter"] == "lora" else "full").attach(
        model.net
    )
    taught = case["method"] == "gkd"
    settings = {"n": ANSWERS, "max_tokens": ANSWER_TOKENS, "temperature": 1.0}
    settings |= {"teacher": spec["model"], "divergence": "jsd", "beta": 0.5} if taught else {"kl": KL}
    objective = shelf("objectives").make({case["method"]: settings})
    units = [
        Unit((Example.of(ids, [0.0] * len(ids)),), columns={"row": {"messages": []}}, origin=str(i))
        for i, ids in enumerate(given)
    ]
    text = Text(model.tokenizer)
    answer = sampler(model, text, max_tokens=ANSWER_TOKENS, temperature=1.0, batch=STEP_PROMPTS * ANSWERS)
    sampled = {"seconds": 0.0, "tokens": 0}

    def timed(asked, n, seeds):
        began = time.perf_counter()
        made = answer(asked, n, seeds)
        sampled["seconds"] += time.perf_counter() - began
        sampled["tokens"] += sum(len(one.ids) for group in made for one in group)
        return made

    helpers = Helpers()
    if taught:
        # random weights say ids of the whole table, of which the byte tokenizer has few: all are compared, as the peer does
        found = Teacher.of(load(spec["model"]), model.tokenizer)
        helpers.teacher = replace(found, vocab=model.net.config.vocab_size)
    else:
        helpers.live = frozen(model.policy)
    feed = Rollouts(
        units,
        collect=lambda asked, sample: objective.collect(model.policy, asked, sample, reward, helpers),
        answer=timed,
        batch_size=STEP_PROMPTS,
        seed=0,
        reward=reward,
    )
    optimizer = Optimizer(model.net.named_parameters(), lr=spec["lr"], embeddings=embedding_names(model.net))
    steps = len(units) // STEP_PROMPTS
    walk = loop(
        model.policy, objective, feed, optimizer, steps=steps, batch_size=STEP_PROMPTS, lr=spec["lr"], schedule="constant",
        clip=1.0, helpers=helpers,
    )  # fmt: skip
    for step in walk:
        meter.step(step.stats.num_units, step.stats.loss)
    whole = time.perf_counter() - started
    report = meter.report() | {
        "side": "ours",
        "units_per_second": len(units) / whole,
        "rollout_tokens_per_second": sampled["tokens"] / sampled["seconds"],
        "rollout_tokens": sampled["tokens"],
        "gemm_gflops": [quiet, gemm_gflops()],
        "rows": fingerprint(given),
        "trainable": sum(p.numel() for p in optimizer.parameters),
        "versions": {"tunesmith": __version__, "torch": torch.__version__},
    }
    Path(out_file).write_text(json.dumps(report))


def reward(rows, texts):
    """The same figure as the peer's."""
    return [paid(text) for text in texts]


if __name__ == "__main__":
    main(*sys.argv[1:])
