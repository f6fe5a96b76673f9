"""Folders to draw pages of: a realistic training run and a realistic comparison, their numbers made by formulas."""

import json
import math
import random
from pathlib import Path

import pytest

INTENTS = [
    "card_arrival", "card_linking", "exchange_rate", "card_payment_wrong_exchange_rate", "extra_charge_on_statement", "pending_cash_withdrawal",
    "fiat_currency_support", "card_delivery_estimate", "automatic_top_up", "card_not_working", "exchange_via_app", "lost_or_stolen_card",
    "age_limit", "pin_blocked", "contactless_not_working", "top_up_by_bank_transfer_charge", "pending_top_up", "cancel_transfer",
    "top_up_limits", "wrong_amount_of_cash_received", "card_payment_fee_charged", "transfer_not_received_by_recipient",
    "supported_cards_and_currencies", "getting_virtual_card", "card_acceptance", "top_up_reverted", "balance_not_updated_after_cheque_or_cash_deposit",
    "card_payment_not_recognised", "edit_personal_details", "why_verify_identity", "unable_to_verify_identity", "get_physical_card",
    "visa_or_mastercard", "topping_up_by_card", "disposable_card_limits", "compromised_card", "atm_support", "direct_debit_payment_not_recognised",
    "passcode_forgotten", "declined_cash_withdrawal", "pending_card_payment", "lost_or_stolen_phone", "request_refund", "declined_transfer",
    "Refund_not_showing_up", "declined_card_payment", "pending_transfer", "terminate_account", "card_swallowed", "transaction_charged_twice",
    "verify_source_of_funds", "transfer_timing", "reverted_card_payment?", "change_pin", "beneficiary_not_allowed", "transfer_fee_charged",
    "receiving_money", "failed_transfer", "transfer_into_account", "verify_top_up", "getting_spare_card", "top_up_by_cash_or_cheque",
    "order_physical_card", "virtual_card_not_working", "wrong_exchange_rate_for_cash_withdrawal", "get_disposable_virtual_card", "top_up_failed",
    "balance_not_updated_after_bank_transfer", "cash_withdrawal_not_recognised", "exchange_charge", "top_up_by_card_charge", "activate_my_card",
    "cash_withdrawal_charge", "card_about_to_expire", "apple_pay_or_google_pay", "verify_my_identity", "country_support",
]  # fmt: skip
QUESTIONS = [
    ("I was charged a fee I do not recognise when I used my card abroad, can you tell me what it was for?", "card_payment_fee_charged", "extra_charge_on_statement"),
    ("Why is my top up still pending?", "pending_top_up", "top_up_failed"),
    ("My money has not reached my friend and it has been three days now.", "transfer_not_received_by_recipient", "transfer_timing"),
    ("The rate you applied is not the one I saw.", "card_payment_wrong_exchange_rate", "exchange_rate"),
    ("I got less cash than I asked for", "wrong_amount_of_cash_received", "cash_withdrawal_charge"),
    ("How do I get one of your cards?", "order_physical_card", "getting_spare_card"),
    ("카드가 아직도 도착하지 않았는데 지금 어디쯤 있는지 알 수 있을까요?", "card_arrival", "card_delivery_estimate"),
    ("ATM kept my card!!", "card_swallowed", "card_not_working"),
    ("Is there a charge to exchange currencies?", "exchange_charge", "exchange_via_app"),
    ("i think someone used my phone", "lost_or_stolen_phone", "compromised_card"),
    ("Can my 16 year old open an account", "age_limit", "country_support"),
    ("It says declined at the shop", "declined_card_payment", "card_not_working"),
]  # fmt: skip


def wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.96
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def dump(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def dump_lines(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def make_run(
    folder: Path, *, adapter: str = "lora", steps: int = 120, lang: str = "en", start: float = 3.9, end: float = 0.21
) -> Path:
    """A finished training run with every file of a run folder."""
    draw = random.Random(7 + len(adapter))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.yaml").write_text(
        f"""model: mini
precision: bf16
data: {{source: banking77.csv, prompt: "{{{{ text }}}}", answer: '{{"intent": "{{{{ category }}}}"}}', dev: 1000, test: 770, seed: 0}}
method: sft
adapter: {{{adapter}: {{rank: 8, alpha: 16, dropout: 0.0, targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]}}}}
metrics: [exact_match, macro_f1]
seed: 0
length: 256
too_long: error
train: {{lr: 0.002, batch_size: 32, epochs: 3, schedule: cosine, warmup: 0.05, optimiser: adamw, weight_decay: 0.0, clip: 1.0, pass_tokens: 4096}}
generate: {{max_tokens: 24, temperature: 0.0}}
eval: {{every: 94, batch_size: 64}}
lang: {lang}
""",
        encoding="utf-8",
    )
    dump(folder / "manifest.json", {
        "format": 1, "verb": "train", "created": "2026-11-21T14:02:11Z", "command": "tunesmith train banking77.yaml adapter=lora", "parent": None,
        "seed": 0, "project_hash": "9f2b6c1de0a44f71b2", "code_hash": "51ce77ab90aa01", "data_hashes": {"train": "ab12cd34ef56a7", "test": "0f1e2d3c4b5a69"},
        "versions": {"tunesmith": "0.1.0", "python": "3.12.4", "torch": "2.13.0", "transformers": "5.21.0", "tokenizers": "0.22.1", "numpy": "2.3.1"},
        "hardware": {"system": "Linux x86_64", "processor": "AMD EPYC 9B14", "cores": 2, "memory": 16_640_000_000},
        "test_reads": [{"by": "eval", "time": "2026-11-21T14:09:00Z"}, {"by": "compare", "time": "2026-11-21T14:10:00Z"}],
    })  # fmt: skip
    events = [
        {
            "kind": "start",
            "time": 1.79e9,
            "steps": steps,
            "steps_per_epoch": steps // 3,
            "num_units": 9003,
            "batch_size": 32,
        },
        {"kind": "surprise", "anything": 1},
    ]
    for step in range(1, steps + 1):
        done = step / steps
        loss = end + (start - end) * math.exp(-6.5 * done) + 0.12 * draw.gauss(0, 1) * (0.25 + math.exp(-4 * done))
        events.append({
            "kind": "step", "time": 1.79e9 + 0.3 * step, "step": step, "epoch": 3 * done, "loss": max(loss, 0.01), "seconds": 0.3, "eta": 0.3 * (steps - step),
            "lr": 0.002 * (step / (0.05 * steps) if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))),
            "passes": 2, "units": 32, "figures": {"loss": loss, "accuracy": 1 - 0.9 * math.exp(-4 * done)}, "grad_norm": 0.4 + 2.4 * math.exp(-9 * done) + abs(draw.gauss(0, 0.12)), "tokens": 1480 + draw.randrange(120), "trained_tokens": 310 + draw.randrange(30),
            "tokens_per_second": 4900 + 300 * math.sin(step / 40) + draw.gauss(0, 120) - 60 * len(adapter), "memory_bytes": 510_000_000 + 90_000_000 * (adapter == "full") + 40_000_000 * (1 - math.exp(-step / 30)),
        })  # fmt: skip
        if step % max(1, steps // 9) == 0:
            events.append(
                {
                    "kind": "eval",
                    "time": 1.79e9,
                    "step": step,
                    "dev_loss": end + 0.09 + (start - end) * math.exp(-6.1 * done) + 0.05 * max(0, done - 0.7),
                }
            )
            answer = ["{", '{"intent": "card_arrival"}', '{"intent": "card_delivery_estimate"}'][min(2, int(4 * done))]
            events.append(
                {
                    "kind": "sample",
                    "step": step,
                    "samples": [{"prompt": "When will my new card be here?", "answer": answer}],
                }
            )
    events.append({
        "kind": "end", "time": 1.79e9 + 0.3 * steps, "step": steps, "status": "finished", "early": False, "seconds": 0.3 * steps,
        "predicted_updates": steps, "counted_updates": steps,
    })  # fmt: skip
    dump_lines(folder / "events.jsonl", events)
    with open(folder / "events.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "step", "step": 84')  # what a kill tore off
    make_data(folder / "data")
    weights, trained = 16_900_000, 590_000 if adapter == "lora" else 8_450_000
    parts = {
        "weights": weights,
        "masters": 4 * trained,
        "gradients": 4 * trained,
        "optimizer": 8 * trained,
        "activations": 61_000_000,
    }
    dump(folder / "memory.json", {**parts, "process_peak": 655_000_000})
    modules = [{"name": "embed_tokens", "trainable": 0, "frozen": 2_097_152}]
    for k in range(8):
        modules.append({"name": f"layers.{k}", "trainable": 73_728, "frozen": 794_112})
    dump(folder / "parameters.json", {"modules": [*modules, {"name": "norm", "trainable": 0, "frozen": 256}]})
    dump(folder / "explanation.json", {
        "loss": {"en": "Cross-entropy per trained token: the mean of -log p(token).", "ko": "학습 토큰당 교차 엔트로피: -log p(토큰)의 평균."},
    })  # fmt: skip
    rows = []
    for k in range(400):
        rows.append({"row": k, "origin": f"banking77.csv:{k + 2}", "loss": math.exp(draw.gauss(-2.2, 1.1)), "seen": 3})
    dump_lines(folder / "loss_per_row.jsonl", rows)
    make_evaluation(folder / "evals", "test", share=0.829 if adapter == "lora" else 0.845)
    return folder


def make_data(folder: Path) -> None:
    draw = random.Random(3)
    labels = sorted(((name, 35 + draw.randrange(150)) for name in INTENTS), key=lambda kv: -kv[1])

    def split(rows: int) -> dict:
        return {
            "rows": rows, "kind": "chat", "characters": {"prompt": {"least": 9, "median": 49, "p95": 141, "most": 433, "all": 49 * rows}, "answer":
            {"least": 22, "median": 35, "p95": 58, "most": 66, "all": 35 * rows}}, "languages": {"korean": 0.0735, "english": 0.9258, "other": 0.0007},
            "rows_with_lost_characters": 0, "answers": {"different": 77, "most": dict(labels[:20]), "largest_share": 0.02, "smallest": 35},
        }  # fmt: skip

    banking = {
        "rows_in": 10003,
        "rows_out": 9973,
        "rows_dropped": 30,
        "reasons": {"exact duplicate of another row": 23, "empty question": 5, "longer than 256 tokens": 2},
    }
    korean = {"rows_in": 800, "rows_out": 800, "rows_dropped": 0, "reasons": {}}
    dump(folder / "card.json", {
        "format": 1, "kind": "chat", "counts": {
            "rows_in": 10803, "rows_out": 10773, "rows_dropped": 30, "by_origin": {"banking77.csv": banking, "nsmc-sample.jsonl": korean}, "notes": {},
        }, "splits": {"train": split(9003), "dev": split(1000), "test": split(770)}, "duplicates": 4, "prompts_in_train_and_test": 2, "seed": 0,
    })  # fmt: skip
    dump_lines(
        folder / "dropped.jsonl",
        [{"origin": f"banking77.csv:{k}", "reason": "exact duplicate of another row"} for k in range(30)],
    )
    rows = []
    for k in range(400):
        question, intent, _ = QUESTIONS[k % len(QUESTIONS)]
        answer = {"role": "assistant", "content": f'{{"intent": "{intent}"}}'}
        rows.append(
            {
                "origin": f"banking77.csv:{k + 2}",
                "id": f"{k:016x}",
                "messages": [{"role": "user", "content": question}, answer],
            }
        )
    dump_lines(folder / "train.jsonl", rows)
    counts = [0, 12, 310, 1804, 3120, 2410, 1302, 620, 320, 160, 70, 345]
    dump(
        folder / "lengths.json",
        {"edges": list(range(0, 130, 10)), "counts": counts, "median": 46, "longest": 119, "limit": 100},
    )
    segments = [
        {"role": "user", "text": "<|user|>I am still waiting on my card?<|end|>", "trained_on": False},
        {"role": "assistant", "text": "<|assistant|>", "trained_on": False},
        {"role": "assistant", "text": '{"intent": "card_arrival"}<|end|>', "trained_on": True},
    ]
    tuples = [
        ["user", "<|user|>이 영화 어땠나요? 정말 재미있게 봤습니다.<|end|><|assistant|>", [1], False],
        ["assistant", '{"평가": "긍정"}<|end|>', [2], True],
    ]
    dump(
        folder / "examples.json",
        [{"origin": "banking77.csv:2", "segments": segments}, {"origin": "nsmc-sample.jsonl:4", "segments": tuples}],
    )


def make_evaluation(folder: Path, name: str, *, share: float, n: int = 770) -> None:
    low, high = wilson(share, n)
    matrix = [[0] * 77 for _ in INTENTS]
    for k in range(77):
        wrong = round(8 * math.exp(-k / 9)) + (k % 3 == 0)
        matrix[k][k] = 10 - wrong
        matrix[k][(k * 7 + 3) % 77] += wrong
    dump(folder / f"{name}.json", {
        "n": n,
        "metrics": {
            "exact_match": {"value": share, "n": n, "low": low, "high": high, "better": "higher"},
            "macro_f1": {"value": share - 0.012, "n": n, "low": low - 0.011, "high": high - 0.014, "better": "higher", "extra": {"labels": INTENTS, "confusion": [[*row, 0] for row in matrix]}},
            "perplexity": {"value": 1.31, "n": n, "low": 1.27, "high": 1.36, "better": "lower"},
        },
    })  # fmt: skip
    rows = []
    for k in range(n):
        question, intent, wrong = QUESTIONS[k % len(QUESTIONS)]
        right = (k * 37 % n) / n < share
        rows.append({
            "id": f"{k:016x}", "origin": f"test.csv:{k + 2}", "prompt": question, "answer": f'{{"intent": "{intent}"}}',
            "prediction": f'{{"intent": "{intent if right else wrong}"}}', "metrics": {"exact_match": right}, "logprob": -0.001 * (k % 97) - 0.02,
            "tokens": 44 + k % 9, "seconds": 0.011 + 0.0001 * (k % 7),
        })  # fmt: skip
    dump_lines(folder / f"{name}.jsonl", rows)


def make_report(folder: Path, *, lang: str = "en", steps: int = 120) -> Path:
    """A comparison of five variants with two runs beside it."""
    korean = lang == "ko"
    n = 770
    names = (
        ["프롬프트만", "프롬프트에 예시 8개", "BM25로 고른 예시 8개", "LoRA", "전체 튜닝"]
        if korean
        else ["Prompt only", "Eight examples", "BM25-picked examples", "LoRA", "Full tuning"]
    )
    kinds, shares = ["prompt", "examples", "retrieval", "lora", "full"], [0.013, 0.021, 0.148, 0.829, 0.845]
    tokens, took = [52, 391, 402, 53, 53], [0.009, 0.041, 0.043, 0.012, 0.010]
    variants = []
    for name, kind, share, read, second in zip(names, kinds, shares, tokens, took):
        low, high = wilson(share, n)
        trained = {"lora": 589_824, "full": 8_450_304}.get(kind, 0)
        variants.append({
            "name": name, "kind": kind, "score": share, "low": low, "high": high, "n": n, "prompt_tokens_per_answer": read, "tokens_per_answer": 11.4 + second, "valid": 0.62 + 0.09 * len(variants), "seconds_per_answer": second,
            "trainable": trained, "minutes": {"lora": 2.61, "full": 3.24}.get(kind, 0),
        })  # fmt: skip
    tests = []
    for i, j in ((0, 1), (1, 2), (2, 3), (2, 4), (3, 4)):
        d = shares[j] - shares[i]
        half = 1.96 * math.sqrt(max(shares[i] * (1 - shares[i]) + shares[j] * (1 - shares[j]) - 0.1, 0.01) / n)
        apart = abs(d) > half
        p = math.erfc(abs(d) / half * 1.96 / math.sqrt(2))
        verdict = "better" if apart and d > 0 else "worse" if apart else "not told apart"
        tests.append(
            {
                "a": names[i],
                "b": names[j],
                "difference": d,
                "low": d - half,
                "high": d + half,
                "p": p,
                "n": n,
                "test": "McNemar",
                "verdict": verdict,
            }
        )
    panel = []
    told = [
        ("NSMC 감성" if korean else "NSMC sentiment", 0.52, 0.43, 400),
        ("산수" if korean else "Small sums", 0.11, 0.10, 200),
        ("따라 쓰기" if korean else "Copying", 0.94, 0.61, 200),
    ]
    for task, before, after, rows in told:
        sides = [
            {"value": v, "low": wilson(v, rows)[0], "high": wilson(v, rows)[1], "n": rows} for v in (before, after)
        ]
        panel.append(
            {"task": task, "metric": "exact_match", "variant": names[4], "before": sides[0], "after": sides[1]}
        )
    sides = [{"value": v, "low": v - 0.01, "high": v + 0.01, "n": 300} for v in (1.482, 1.713)]
    panel.append(
        {
            "task": "일반 글(바이트당 비트)" if korean else "General text (bits per byte)",
            "metric": "bits_per_byte",
            "variant": names[4],
            "better": "lower",
            "unit": "number",
            "before": sides[0],
            "after": sides[1],
        }
    )
    worst = [
        {"prompt": q, "expected": f'{{"intent": "{a}"}}', "answer": f'{{"intent": "{b}"}}', "origin": f"test.csv:{k}"}
        for k, (q, a, b) in enumerate(QUESTIONS)
    ]
    make_run(folder / "lora", adapter="lora", lang=lang, steps=steps)
    make_run(folder / "full", adapter="full", lang=lang, steps=steps, start=3.7, end=0.13)
    dump(folder / "report.json", {
        "format": 1, "lang": lang, "created": "2026-11-21T14:12:40Z",
        "title": "은행 상담 문의를 77가지 의도로 나누기" if korean else "Which of 77 intents is this bank message?",
        "task": "고객 문의 한 줄을 읽고 의도를 JSON으로 답하는 과제입니다. Banking77 (CC BY 4.0), 3,080개 평가 행에서 뽑은 770행을 고정해 모든 방법을 쟀습니다."
        if korean else "Read one customer message and answer its intent as JSON. Banking77 (CC BY 4.0); a frozen, seeded and stratified sample of 770 of its 3,080 test rows.",
        "metric": {"name": "exact_match", "unit": "share", "better": "higher"}, "rows": {"train": 9003, "dev": 1000, "test": n},
        "model": {"name": "mini", "parameters": 8_450_304}, "variants": variants, "tests": tests, "panel": panel, "worst_rows": worst,
        "runs": {names[3]: "lora", names[4]: "full"},
        "budget": "훈련을 6분에 맞추었습니다: 3에폭." if korean else "Training was fitted to 6 minutes: three epochs instead of ten.",
        "manifest": json.loads((folder / "lora/manifest.json").read_text(encoding="utf-8")),
    })  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "banking77-lora")


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory) -> Path:
    return make_report(tmp_path_factory.mktemp("demo") / "demo")
