"""tunesmith plan: one setup, what fits a card, what to change, and the planned run beside the measured one."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

import tunesmith
from tunesmith.api.plan import compared
from tunesmith.api.planner import Planner, base_of
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.core.runs import RunFolder
from tunesmith.core.shelf import shelf
from tunesmith.plan.devices import device
from tunesmith.plan.formulas import cache_columns
from tunesmith.plan.network import architecture

PICO = {"model": "pico", "length": 64, "train.pass_tokens": 128, "train.batch_size": 2}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_plan_names_parts_operation_and_bar():
    found = tunesmith.plan(model="pico", method="sft", adapter="lora", length=64, **{"train.pass_tokens": 128})
    seen = found["forecast"]
    assert seen["fits"] and seen["error"] > 0
    assert sum(seen["kinds"].values()) == seen["live"] <= seen["device"]
    assert seen["where"].split(":")[0] in ("forward", "backward", "update")
    assert {"weights N x M", "gradients and states N x 3 x M", "inference N x M x 1.2"} <= set(seen["closed"])
    assert "activations" in found.text and "give or take" in found.text and "a guess" not in found.text
    json.dumps(found)


def names(rows):
    """Adapters by name, of setups as `as_dict` tells them."""
    told = [row["setup"]["adapter"] for row in rows]
    return [one if isinstance(one, str) else next(iter(one)) for one in told]


def test_gpu_lists_what_of_the_shelf_fits_cheapest_first():
    found = tunesmith.plan(**PICO, gpu="12GB", rows=400)
    assert {"full", "lora", "dora", "prompt"} <= set(names(found["fits"]))
    assert {*names(found["fits"]), *found["too_large"], *found["refused"]} == set(shelf("adapters").names())
    slower = [row["slower"] for row in found["fits"]]
    assert slower == sorted(slower)
    assert "cheapest" in found.text and all(row["every_layer"] for row in found["fits"]) and "~" not in found.text
    assert found["recommended"] == "lora" and found["reasons"]
    assert list(found["refused"]) == ["tokens", "top"]  # no token is added, and there are not two layers
    assert "Refused: tokens: " in found.text and "Refused: top: " in found.text
    json.dumps(found)


def test_rows_of_added_tokens_train_where_there_are_some():
    found = tunesmith.plan(**PICO, adapter="tokens", add_tokens=["<a>", "<b>"])["forecast"]
    assert found["trainable"] == 2 * architecture("pico").hidden_size
    with pytest.raises(SettingError, match="no weight"):
        tunesmith.plan(**PICO, adapter="tokens")


DEEP = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 16, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 288, "max_position_embeddings": 512,
}  # fmt: skip


def test_of_a_deep_network_the_cheapest_and_the_own_adapter_are_run_whole(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(DEEP))
    monkeypatch.setattr(
        Planner, "adapters", lambda self: ["head", "lora", "layernorm", "prompt", {"top": {"layers": 6}}]
    )
    found = tunesmith.plan(**PICO | {"model": str(tmp_path)}, gpu="12GB")
    whole = {name: row["every_layer"] for name, row in zip(names(found["fits"]), found["fits"])}
    assert whole.pop("top"), "layers that two shallower networks lack"
    assert whole.pop(names(found["fits"])[0], True) and whole.pop("lora", True) and not any(whole.values())
    assert "~" in found.text and "every layer" in found.text


def test_where_the_base_alone_is_too_large_no_step_is_run():
    planner = Planner.of(None, device("2GB"), keys={**PICO, "model": "Llama-3.2-1B"})
    assert planner.too_large(planner.setup)
    assert not planner.too_large(replace(planner.setup, adapter="qlora"))
    assert not Planner.of(None, device("8GB"), keys={**PICO, "model": "Llama-3.2-1B"}).too_large(planner.setup)


def test_fit_says_what_to_change():
    found = tunesmith.plan(
        model="pico", adapter="full", length=256, fit="600MB", **{"train.pass_tokens": 16384, "train.batch_size": 64}
    )
    assert found["changes"] is None or found["forecast"]["fits"]


def test_fit_leaves_alone_what_fits():
    found = tunesmith.plan(model="pico", length=64, fit="24GB", **{"train.pass_tokens": 128, "train.batch_size": 2})
    assert found["changes"] == [] and "as it is" in found.text


def test_time_and_cost_follow_from_a_card():
    """One setup there, with the three numbers of its size, its time and its cost; `device` has allocated and reserved apart."""
    found = tunesmith.plan(on="T4", tokens=5e6, price=2.5, **PICO)
    seen = found["forecast"]
    assert found["device"] == "T4" and seen["allocated"] <= seen["reserved"] < seen["device"]
    assert found["operations"] == pytest.approx(seen["flops"] / seen["tokens"] * 5e6)
    step = seen["seconds_pass"] * 128 / seen["tokens"] + seen["seconds_update"]
    assert found["seconds"] == pytest.approx(5e6 / 128 * step) and found["parameters"] == seen["parameters"]
    assert found["cost"] == pytest.approx(found["seconds"] / 3600 * 2.5)
    for part in ("allocated", "reserved", "5M tokens", "in all", "peak of a step", "a guess"):
        assert part in found.text
    json.dumps(found)


def test_several_cards_share_the_tokens_and_each_costs():
    found = tunesmith.plan(on="T4", tokens=5e6, price=2.5, devices=2, **PICO)
    seen = found["forecast"]
    step = seen["seconds_pass"] * 64 / seen["tokens"] + seen["seconds_update"]  # of two rows a step each has one
    assert found["seconds"] == pytest.approx(5e6 / (2 * 64) * step)
    assert found["cost"] == pytest.approx(2 * found["seconds"] / 3600 * 2.5)


def test_gpu_and_fit_tell_time_and_cost_too():
    listed = tunesmith.plan(gpu="T4", tokens=5e6, price=2.5, **PICO)
    first = listed["fits"][0]["cost"]
    assert first["seconds"] > 0 and first["cost"] == pytest.approx(first["seconds"] / 3600 * 2.5)
    assert "5M tokens" in listed.text and "operations" in listed.text
    fitted = tunesmith.plan(fit="T4", tokens=5e6, price=2.5, **PICO)
    assert fitted["seconds"] > 0 and fitted["cost"] > 0 and "5M tokens" in fitted.text


def test_where_no_speed_is_known_operations_are():
    found = tunesmith.plan(on="12GB", tokens=5e6, **PICO)
    assert found["operations"] > 0 and found["seconds"] is None and found["cost"] is None
    assert "not known" in found.text and "5M tokens" in found.text


@pytest.mark.parametrize(
    "keys",
    [{"fit": "T4", "rows": 400}, {"gpu": "T4", "budget": 1e15}, {"price": 2.0}, {"distance": "far"}, {"zero": 3}, {"bytes": 2.0},
     {"on": "T4", "measure": True}, {"on": "T4", "gpu": "T4"}, {"parameters": 1e9}, {"budget": -5.0}, {"tokens": 0.0}],
)  # fmt: skip
def test_a_flag_that_nobody_would_read_is_refused(keys):
    with pytest.raises(SettingError):
        tunesmith.plan(**PICO, **keys)


def test_the_closed_formulas_are_exact():
    found = tunesmith.plan(parameters=13e9, bytes=2, tokens=1e12)
    assert (found["weights"], found["inference"], found["states"]) == (26e9, 31.2e9, 78e9)
    assert found["operations"] == 6 * 13e9 * 1e12
    lines = [line.split()[-2:] for line in found.text.splitlines()]
    assert ["26", "GB"] in lines and ["31.2", "GB"] in lines and ["78", "GB"] in lines
    with pytest.raises(SettingError, match="-5"):
        tunesmith.plan(budget=-5)


def bytes_of(name: str, each: int = 4) -> int:
    """fp32 bytes of a model's parameters, counted by nobody but torch."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(architecture(name))
    return sum({id(p): p.numel() for p in net.parameters()}.values()) * each


def test_a_teacher_has_its_own_size():
    """A teacher of 1.2 billion parameters beside pico."""
    small, large = (
        tunesmith.plan(**PICO, method={"gkd": {"teacher": teacher, "max_tokens": 16}})["forecast"]["kinds"]["helpers"]
        for teacher in ("pico", "Llama-3.2-1B")
    )
    assert small == pytest.approx(bytes_of("pico"), rel=0.02)
    assert large == pytest.approx(bytes_of("Llama-3.2-1B"), rel=0.001)


def test_reward_models_are_held_too(tmp_path):
    from tunesmith.model.load import load
    from tunesmith.model.save import save

    judge = load("pico", kind="classify", labels=("score",))
    save(judge.net, judge.tokenizer, tmp_path / "judge")
    size = sum(p.numel() * 4 for p in judge.net.parameters())
    grpo = {"max_tokens": 16, "n": 2}

    def held(**more):
        return tunesmith.plan(**PICO, method={"grpo": {**grpo, **more}})["forecast"]["kinds"]["helpers"]

    alone, judged = held(reward="exact_match"), held(reward={"model": "judge"})
    assert judged - alone == pytest.approx(size, rel=0.05)
    both = held(reward=[{"of": {"model": "judge"}}, "exact_match"], hidden={"model": "judge"})
    assert both - alone == pytest.approx(2 * size, rel=0.05)


def test_a_run_with_an_adapter_has_its_bases_architecture(tmp_path):
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "mini"}))
    (tmp_path / "run" / "manifest.json").write_text("{}")
    assert base_of("run", tmp_path) == "mini"


def test_what_train_refuses_to_cut_is_not_planned_as_cut():
    keys = {**PICO, "devices": 2, "zero": 3}
    with pytest.raises(SettingError, match="packed"):
        tunesmith.plan(**keys, base="nf4")
    for refused in ({"train.precision": "fp16"}, {"train.optimizer": "muon"}, {"adapter": "head"}):
        with pytest.raises(SettingError, match="shard"):
            tunesmith.plan(**keys, **refused)
    with pytest.raises(SettingError, match="update_in_backward"):
        tunesmith.plan(**PICO, devices=2, **{"train.update_in_backward": True, "train.clip": None})
    with pytest.raises(SettingError, match="trains the base"):
        tunesmith.plan(**PICO, adapter="full", base="int8")


def test_gpu_says_which_methods_are_refused_there():
    found = tunesmith.plan(**PICO, devices=2, zero=3, gpu="T4")
    assert "Refused: qlora" in found.text and "Refused: head" in found.text
    assert {"qlora", "head", "tokens"} <= set(found["refused"]) and {"full", "lora"} <= set(names(found["fits"]))
    assert all(row["setup"]["precision"] == "fp32" for row in found["fits"])


def test_evaluations_and_answers_are_phases():
    phases = tunesmith.plan(**PICO)["forecast"]["phases"]
    assert list(phases) == ["load", "step", "evaluation", "answers", "save"]
    assert "evaluation" not in tunesmith.plan(**PICO, **{"data.dev": 0})["forecast"]["phases"]
    silent = tunesmith.plan(**PICO, **{"train.sample": 0})["forecast"]["phases"]
    assert silent == {name: size for name, size in phases.items() if name != "answers"}
    sampled = tunesmith.plan(**PICO, method={"grpo": {"max_tokens": 16, "n": 2, "reward": "exact_match"}})["forecast"]
    assert {"rollouts", "save"} <= set(sampled["phases"]) and not {"evaluation", "answers"} & set(sampled["phases"])


def test_keys_and_values_of_the_answers_are_counted_as_the_decoder_holds_them():
    """The longest row and 64 tokens, three at a time: 2 x layers x heads x width numbers of fp32 for each column."""
    planner = Planner.of(None, device("cpu:8GB"), keys=PICO)
    config = planner.config
    column = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    seen = planner.whole(planner.setup)
    held = planner.simulate(planner.setup, config).held
    assert seen.phases["answers"] - held == 3 * cache_columns(64, 128) * column
    planner._lean = False
    assert planner._kept_tokens(planner.setup) == {"answers": 3 * (128 + 128 // config.num_hidden_layers)}


def test_an_evaluation_has_its_own_rows_at_once():
    """Passes of an evaluation hold train.eval_batch rows at most."""
    keys = {**PICO, "train.pass_tokens": 4096}
    few, many = (
        tunesmith.plan(**keys, **{"train.eval_batch": rows})["forecast"]["phases"]["evaluation"] for rows in (1, 60)
    )
    assert many > few


def test_the_rows_of_a_project_say_which_method_to_take(tmp_path):
    write_rows(tmp_path / "faq.jsonl")
    keys = {"model": "pico", "data.path": "faq.jsonl", "data.dev": 0, "data.test": 10, "train.batch_size": 2}
    found = tunesmith.plan(**keys, gpu="T4")
    assert found["recommended"] == "lora" and "90 rows" in found.text
    assert "20 rows" in tunesmith.plan(**keys, gpu="T4", rows=20).text
    assert "90 rows" in tunesmith.plan(**keys, distance="far").text
    assert "recommended" not in tunesmith.plan(**keys)


def test_a_step_is_timed_here_and_later_plans_know(monkeypatch):
    """Products and copies of a made-up speed, and a clock by which a step takes 7 seconds."""
    from tunesmith.plan import calibrate, rates

    made = []

    def clocked(step, *, ready):
        made.append((step(), ready()))
        return 7.0

    monkeypatch.setattr(
        rates, "measure", lambda *formats: rates.Rates({"float32": 1e10}, 1e10, rates.LAUNCH["cpu"], True)
    )
    monkeypatch.setattr(rates, "step_seconds", clocked)
    found = tunesmith.plan(**PICO, measure=True)
    seen, step = found["forecast"], found["step"]
    assert len(made) == 1 and step["measured"] == 7.0
    assert seen["seconds_pass"] + seen["seconds_update"] == pytest.approx(7.0)
    assert seen["pace"] == pytest.approx(7.0 / step["predicted"]) == calibrate.pace("cpu")
    assert "pace" in found.text
    later = tunesmith.plan(**PICO)["forecast"]
    assert later["seconds_pass"] == pytest.approx(seen["seconds_pass"]) and later["pace"] == seen["pace"]
    assert tunesmith.plan(**PICO, on="T4")["forecast"]["pace"] == 1.0, "another device"


@pytest.mark.parametrize("keys", [{"adapter": "full"}, {"adapter": "qlora"}, {"adapter": "pissa"}, {"adapter": "full", "train.precision": "bf16"},
                                  {"method": {"gkd": {"teacher": "pico", "max_tokens": 16}}}])  # fmt: skip
def test_the_step_that_is_timed_is_a_real_one(keys):
    planner = Planner.of(None, device("cpu:8GB"), keys={**PICO, **keys})
    planner._real_step()()


def test_what_waits_for_the_disk_is_not_timed(monkeypatch):
    from tunesmith.plan import rates

    monkeypatch.setattr(
        rates, "measure", lambda *formats: rates.Rates({"float32": 1e10}, 1e10, rates.LAUNCH["cpu"], True)
    )
    found = tunesmith.plan(**PICO, **{"train.offload": "disk"}, measure=True)
    assert "disk" in found["step"]["untimed"] and "no step was timed" in found.text
    assert "may not fit" in tunesmith.plan(**PICO, on="cpu:100MB", measure=True)["step"]["untimed"]


def test_the_seconds_of_steps_are_compared_after_a_run(tmp_path):
    from tunesmith.plan import calibrate

    run = RunFolder.create(tmp_path / "run", project={}, verb="train")
    forecast = {"device": 100, "error": 0.1, "seconds_pass": 2.0, "seconds_update": 0.5, "tokens": 100, "pace": 2.0}
    run.write_json("plan.json", {"forecast": forecast, "device": "cpu", "devices": 1})
    run.write_json("memory.json", {"process_peak": 100})
    for seconds in (9.0, 4.0, 5.0, 6.0):
        run.journal("events.jsonl").append({"kind": "step", "tokens": 200, "seconds": seconds})
    told = compared(SimpleNamespace(folder=run, device="cpu", feed=None))
    assert run.read_json("plan.json")["measured"]["step"] == {"predicted": 4.5, "measured": 5.0, "error": 4.5 / 5.0 - 1}
    assert "4.50 s planned, 5.00 s measured (-10.0 %)" in told
    assert calibrate.pace("cpu") == pytest.approx(5.0 / 2.25), "beside what the rates alone had said"
    run.write_json("plan.json", {"forecast": {**forecast, "seconds_pass": None}, "device": "cpu", "devices": 1})
    assert "step" not in compared(SimpleNamespace(folder=run, device="cpu", feed=None))


def test_a_stretched_context_is_planned_and_nothing_beyond_it():
    keys = {"model": "pico", "train.pass_tokens": 1024, "train.batch_size": 1}
    with pytest.raises(SettingError, match="512"):
        tunesmith.plan(**keys, length=1024)
    found = tunesmith.plan(**keys, length=1024, rope={"kind": "yarn", "factor": 4})
    assert found["forecast"]["setup"]["length"] == 1024 and found["forecast"]["tokens"] == 1024
    with pytest.raises(SettingError, match="2,048"):
        tunesmith.plan(**keys, length=4096, rope={"kind": "yarn", "factor": 4})


def test_rows_say_which_method_to_take_without_a_card_too():
    found = tunesmith.plan(**PICO, rows=400, distance="far")
    assert found["recommended"] == "lora" and "400 rows" in found.text


def test_a_base_in_its_file_is_never_loaded_whole():
    """What is held when it has been loaded: everything but the matrices, in fp32, and the adapter."""
    from tunesmith.model.load import load
    from tunesmith.model.packed import matrices

    net = load("mini").net
    inside = sum(net.get_submodule(name).weight.numel() for name in matrices(net))
    rest = sum(p.numel() for p in net.parameters()) - inside
    keys = {"model": "mini", "length": 64, "train.pass_tokens": 128, "train.batch_size": 2}
    whole = Planner.of(None, device("cpu:8GB"), keys=keys)
    streamed = Planner.of(None, device("cpu:8GB"), keys={**keys, "base": "streamed"})
    assert whole.look(whole.setup).phases["load"] >= 4 * (rest + inside)
    seen = streamed.look(streamed.setup)
    assert seen.phases["load"] == pytest.approx(4 * (rest + seen.trainable), rel=0.01)


ROWS = [{"question": "a" * (10 + n % 40), "answer": "b" * 20} for n in range(100)]


def write_rows(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_the_rows_of_a_project_say_length_tokens_and_steps(tmp_path):
    """D6: ceil(rows / batch) updates an epoch; the rest as `train` itself counts it."""
    write_rows(tmp_path / "faq.jsonl")
    (tmp_path / "tunesmith.yaml").write_text(
        "model: pico\ndata: {path: faq.jsonl, dev: 0, test: 10}\ntrain: {epochs: 2, batch_size: 16}\n"
    )
    found = tunesmith.plan(str(tmp_path / "tunesmith.yaml"), on="T4", price=2.0)
    made = tunesmith.build(str(tmp_path / "tunesmith.yaml"), out=tmp_path / "made")
    assert found["data"]["rows"] == len(made.prepared.train) == 90
    assert found["data"]["longest"] == max(made.units.lengths) == found["forecast"]["setup"]["length"]
    assert (
        found["data"]["tokens_an_epoch"] == made.units.total_tokens and found["tokens"] == 2 * made.units.total_tokens
    )
    assert found["data"]["steps_an_epoch"] == 6 and found["steps"] == made.chosen["steps"] == 12
    assert found["operations"] > 0 and found["seconds"] > 0 and found["cost"] > 0
    assert "90 to train on" in found.text and "12 steps" in found.text
    assert found["forecast"]["tokens"] <= made.units.total_tokens, (
        "the largest step of the rows themselves is what is planned"
    )
    given = tunesmith.plan(str(tmp_path / "tunesmith.yaml"), on="T4", tokens=1e6)
    assert given["tokens"] == 1e6 and given["steps"] is None


def test_rows_of_a_model_whose_tokenizer_is_not_here_are_counted_with_another(tmp_path):
    from tunesmith.api import ahead
    from tunesmith.text.tokenizer import Tokenizer

    assert ahead._tokenizer("Llama-3.2-1B", architecture("Llama-3.2-1B"), "causal")[1] == "mini"
    made, whose = ahead._tokenizer("pico", architecture("pico"), "causal")
    assert whose == "own" and isinstance(made, Tokenizer)


def test_prompts_that_are_answered_have_steps_and_no_tokens_yet(tmp_path):
    write_rows(tmp_path / "faq.jsonl", ROWS[:20])
    method = {"grpo": {"max_tokens": 16, "n": 2, "reuse": 2, "reward": "exact_match"}}
    keys = {
        "model": "pico",
        "method": method,
        "data.path": "faq.jsonl",
        "data.dev": 0,
        "data.test": 0,
        "train.batch_size": 8,
        "train.epochs": 1,
    }
    found = tunesmith.plan(**keys)
    assert found["tokens"] is None and found["data"]["tokens_an_epoch"] is None
    assert found["data"]["steps_an_epoch"] == found["steps"] == 6  # 3 rounds of 8 prompts, each used twice
    with pytest.raises(SettingError, match="how many tokens"):
        tunesmith.plan(**keys, price=2.0)


def test_of_many_rows_some_are_read(tmp_path, monkeypatch):
    from tunesmith.api import ahead

    monkeypatch.setattr(ahead, "MOST", 20)
    write_rows(tmp_path / "faq.jsonl")
    keys = {"model": "pico", "data.path": "faq.jsonl", "data.dev": 0, "data.test": 0}
    found = tunesmith.plan(**keys)
    assert found["data"]["rows"] == 100 and found["data"]["read"] == 20 and found["data"]["units"] == 100
    assert "by 20 of them" in found.text
    monkeypatch.setattr(ahead, "MOST", 2000)
    whole = tunesmith.plan(**keys)["data"]["tokens_an_epoch"]
    assert found["data"]["tokens_an_epoch"] == pytest.approx(whole, rel=0.1)


def test_pairs_are_planned_from_their_own_rows(tmp_path):
    """A run makes the reference's column before its first step; a plan has none to read."""
    rows = [{"prompt": f"what is {n}?", "chosen": "yes " * n, "rejected": "no " * 4} for n in range(1, 21)]
    write_rows(tmp_path / "pairs.jsonl", rows)
    found = tunesmith.plan(model="pico", method="dpo", **{"data.path": "pairs.jsonl", "train.batch_size": 4})
    assert found["data"]["rows"] > 0 and found["forecast"]["phases"]["evaluation"] > 0


def test_a_budget_alone_gives_the_best_split():
    found = tunesmith.plan(budget=5.76e23)
    assert found["parameters"] * found["tokens"] * 6 == pytest.approx(5.76e23)


def test_sharding_divides_what_is_held():
    keys = {"model": "pico", "adapter": "full", "length": 64, "train.pass_tokens": 128, "train.batch_size": 4}
    one, two = tunesmith.plan(**keys)["forecast"], tunesmith.plan(devices=2, zero=1, **keys)["forecast"]
    assert two["kinds"]["optimizer"] == pytest.approx(one["kinds"]["optimizer"] / 2, rel=0.01)
    assert two["live"] < one["live"]
    said = tunesmith.plan(devices=2, **keys, **{"train.shard": "optimizer"})["forecast"]
    assert said["kinds"] == two["kinds"] and said["live"] == two["live"]


@pytest.mark.parametrize(
    ("keys", "error"),
    [({"gpu": "H10"}, SettingError), ({"zero": 4}, SettingError), ({"model": "Qwen3-9B"}, ModelError), ({"gpu": "T4", "fit": "T4"}, SettingError), ({"method": "features"}, SettingError)],
)  # fmt: skip
def test_mistakes_are_explained(keys, error):
    with pytest.raises(error):
        tunesmith.plan(**{"model": "pico", "length": 64, **keys})


def test_ragged_rows_of_an_encoder_are_planned_with_their_padding(tmp_path):
    """Rows of an encoder lie padded: one long text makes a pass of short ones large."""
    rows = [{"text": "ab " * (60 if n % 4 == 1 else 2), "label": "xy"[n % 2]} for n in range(12)]
    keys = {
        "model": "pico-encoder",
        "method": "classify",
        "adapter": "full",
        "train.batch_size": 12,
        "train.pass_tokens": 4096,
        "data.dev": 0,
    }
    planner = Planner.of(None, device("cpu:8GB"), keys={**keys, "data": rows})
    seen = planner.simulate(planner.setup, planner.config)
    planner._layout = "packed"
    assert planner._padded(planner.setup) is False
    planner._layout = None
    assert planner._padded(planner.setup) is True
    longest = max(len(example) for unit in planner.ahead.units for example in unit.examples)
    assert longest > 60, "one long text among short ones"
    setup = replace(planner.setup, pass_tokens=longest * 3)
    found = planner.simulate(setup, planner.config)
    assert found.num_tokens == 3 * longest, "the heaviest pass is that of the three long texts"
    assert seen.num_tokens > found.num_tokens


def test_a_card_holds_no_more_while_a_base_is_loaded_than_it_has_to(monkeypatch):
    """fp32 where all is trained; a frozen base in the format that trains; a packed one layer by layer."""
    keys = {"model": "mini", "length": 64, "train.pass_tokens": 128, "train.batch_size": 2, "train.precision": "bf16"}

    def load_of(adapter):
        planner = Planner.of(None, device("H100"), keys={**keys, "adapter": adapter})
        seen = planner.look(planner.setup)
        return seen.phases["load"], seen.parameters, seen.trainable

    load, parameters, trainable = load_of("full")
    assert load == 4 * parameters
    load, parameters, trainable = load_of("lora")
    assert load == 2 * (parameters - trainable) + 4 * trainable
    packed, *_ = load_of("qlora")
    assert packed < load
    large = tunesmith.plan(model="Llama-2-7B", adapter="full", length=64, on="H100", **{"train.precision": "bf16"})
    assert large["forecast"]["device"] >= 4 * large["forecast"]["parameters"]
