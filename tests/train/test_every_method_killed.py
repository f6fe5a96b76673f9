"""Every method is killed (SIGKILL, no chance to save) and resumed: the final weights are those of a run left alone.

Where it is killed: right after a step that no checkpoint has seen; for methods that sample also in the middle of a round of four steps
(it goes on with the answers that the checkpoint holds) and in the middle of sampling.
"""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tunesmith.core.shelf import shelf

WORDS = ("one", "two", "three", "four", "five", "six", "seven")
ASKED = [{"prompt": f"Say {word}", "completion": word} for word in WORDS]
ROWS = {
    "chat": ASKED,
    "prompt": ASKED,
    "text": [{"text": f"They say {word}, and {word} again."} for word in WORDS],
    "text+label": [{"text": f"Say {word}", "label": "long" if len(word) > 3 else "short"} for word in WORDS],
    "preference": [{"prompt": f"Say {word}", "chosen": word, "rejected": "no"} for word in WORDS],
    "rated": [{"prompt": f"Say {w}", "completion": w, "label": bool(n % 2)} for n, w in enumerate(WORDS)],
    "infill": [{"prefix": "They say ", "middle": word, "suffix": " again."} for word in WORDS],
    "pair": [{"anchor": f"Say {word}", "positive": f"{word}, please"} for word in WORDS],
}
SAMPLING = {"max_tokens": 5, "reward": {"format": {"regex": "[a-z]"}}, "reuse": 2, "collect_size": 4}
MOVING = {"kl_target": 0.01, "kl_limit": 0.05}  # PPO's numbers between steps move
SETTINGS = {
    "grpo": SAMPLING, "ppo": {**SAMPLING, **MOVING}, "rejection": SAMPLING,
    "gkd": {"teacher": "pico", "max_tokens": 5, "reuse": 2, "collect_size": 4}, "distill": {"teacher": "pico"},
    "multitask": {"tasks": {"chat": "sft", "text": "pretrain", "preference": "dpo"}, "temperature": 2.0},
}  # fmt: skip
MODELS = {"masked": "pico-encoder", "seq2seq": "pico-t5"}
APART = {"features"}  # no loop to be killed in
METHODS = [name for name in shelf("objectives").names() if name not in APART]
STEPS = 6


def files_of(tasks: dict, out: str) -> list[str]:
    """A file for each task, called like it, beside the run."""
    places = [Path(out).parent / f"{task}.jsonl" for task in tasks]
    for place, task in zip(places, tasks):
        place.write_text("".join(json.dumps(row) + "\n" for row in ROWS[task]))
    return list(map(str, places))


def project(name: str, out: str) -> dict:
    """A run of six small steps with a checkpoint after every second one."""
    method = shelf("objectives").make({name: SETTINGS.get(name, {})})
    shapes = (method.shape,) if isinstance(method.shape, str) else method.shape
    rows = files_of(SETTINGS[name]["tasks"], out) if name == "multitask" else next(ROWS[s] for s in shapes if s in ROWS)
    return {
        "data": rows, "model": MODELS.get(getattr(method, "kind", ""), "pico"), "method": {name: SETTINGS.get(name, {})},
        "adapter": "full", "out": out, "quiet": True,
        "train": {"batch_size": 2, "steps": STEPS, "save_every": 2, "eval_every": 4, "sample": 0, "threads": 1},
    }  # fmt: skip


def killed_after_a_step(name: str, out: str, last: int = 5) -> None:
    """Dies when that step has been journalled and not saved."""
    import tunesmith
    from tunesmith.core.events import Events

    emit = Events.emit

    def until(self, kind, **facts):
        emit(self, kind, **facts)
        if kind == "step" and facts["step"] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    Events.emit = until
    tunesmith.train(**project(name, out))


def killed_within_a_round(name: str, out: str) -> None:
    """Dies after step 3; the checkpoint is that of step 2, and a round of answers serves four."""
    killed_after_a_step(name, out, last=3)


def killed_while_sampling(name: str, out: str) -> None:
    """Dies in the first round of answers after step 3."""
    import tunesmith
    from tunesmith.train.feed import Rollouts

    sampler = Rollouts.sampler

    def until(self, round_):
        sample = sampler(self, round_)

        def dying(prompts, n=1):
            sample(prompts[:1], n)
            os.kill(os.getpid(), signal.SIGKILL)

        return sample if round_ < 1 else dying

    Rollouts.sampler = until
    tunesmith.train(**project(name, out))


def left_alone(name: str, out: str) -> None:
    """Writes the hash of its weights beside the run."""
    import tunesmith

    note(out, tunesmith.train(**project(name, out)))


def resumed(name: str, out: str) -> None:
    """Goes on from the last checkpoint."""
    import tunesmith

    note(out, tunesmith.train(resume=out, quiet=True))


def note(out: str, done: dict) -> None:
    with open(f"{out}.json", "w") as file:
        json.dump(done["result_hash"], file)


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported and no thread of torch's running yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tunesmith.api.train", "tunesmith.train.run", "tunesmith.model.load", "transformers.models.llama"]
    )

    def run(what, name, out):
        process = context.Process(target=what, args=(name, str(out)))
        process.start()
        process.join(300)
        return process.exitcode

    return run


def hash_of(out) -> str:
    return json.loads(out.with_name(f"{out.name}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_killed_and_resumed_the_weights_are_those_of_a_run_left_alone(tmp_path, processes, name):
    assert processes(left_alone, name, tmp_path / "whole") == 0
    assert processes(killed_after_a_step, name, tmp_path / "killed") == -signal.SIGKILL
    assert not (tmp_path / "killed.json").exists()
    assert processes(resumed, name, tmp_path / "killed") == 0
    assert hash_of(tmp_path / "killed") == hash_of(tmp_path / "whole")
    if hasattr(shelf("objectives").make({name: SETTINGS.get(name, {})}), "collect"):
        for kill in (killed_within_a_round, killed_while_sampling):
            place = tmp_path / kill.__name__
            assert processes(kill, name, place) == -signal.SIGKILL
            assert processes(resumed, name, place) == 0
            assert hash_of(place) == hash_of(tmp_path / "whole")
