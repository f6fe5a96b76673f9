"""Every word that a page, or the terminal, says itself, in each language, side by side.

    say = speaker("ko")
    say("not_told_apart")                     -> "구분되지 않음"
    say("better_than", a="LoRA", b="프롬프트")   -> Korean particles follow the word: {a:은/는} gives "LoRA는"

A new label is one line here. Tests hold that both languages are there, name the same values, and that no label is
unused.
"""

import string
from collections.abc import Callable
from typing import Any

from tunesmith.report.words import WORDS

LANGUAGES = ("en", "ko")

# name: (English, Korean)
LABELS: dict[str, tuple[str, str]] = {
    # the page
    "made_by": ("Made with Tunesmith {version}", "Tunesmith {version}로 만들었습니다"),
    "kind_run": ("Training run", "훈련 기록"),
    "kind_comparison": ("Comparison", "비교 보고서"),
    "contents": ("Contents", "차례"),
    "untitled": ("Comparison of variants", "방법 비교"),
    "show_all": ("Show all {n}", "{n}개 모두 보기"),
    "and_more": ("and {n} more", "외 {n}개"),
    "unknown": ("not recorded", "기록 없음"),
    "skip": ("Skip to the content", "본문으로 건너뛰기"),
    # the verdict
    "verdict": ("Verdict", "결론"),
    "fixed_right": (
        "{best} gets {score} of the test rows right. {base} got {base_score}.",
        "맞힌 비율이 {base_score}({base})에서 {score}({best})로 올랐습니다.",
    ),
    "fixed_score": (
        "{best} scores {score} in {metric}, where {base} scored {base_score}.",
        "{metric}: {base} {base_score}에서 {best} {score}로 나아졌습니다.",
    ),
    "nothing_better": (
        "Nothing tried here is proved better than {base} ({base_score}).",
        "시도한 어떤 방법도 {base}({base_score})보다 낫다고 증명되지 않았습니다.",
    ),
    "untested": (
        "{best} has the best score, {score}, but no paired test against {base} was run.",
        "{best:이/가} {score}로 점수가 가장 높지만, {base:과/와} 짝지은 검정은 하지 않았습니다.",
    ),
    "one_variant": ("{best} scores {score} ({metric}).", "{best}: {metric} {score}."),
    "no_variants": ("No variant has a score.", "점수가 있는 방법이 없습니다."),
    "what_failed": ("What failed", "무엇이 부족했나"),
    "what_tried": ("What was tried", "무엇을 시도했나"),
    "what_fixed": ("What fixed it", "무엇이 해결했나"),
    "how_proved": ("How it is proved", "어떻게 증명했나"),
    "what_worse": ("What got worse", "무엇이 나빠졌나"),
    "failed_text": ("{base} got {score} on {n} test rows.", "{base}: 평가 {n}행에서 {score}."),
    "failed_others": ("Also not enough: {list}.", "이것도 부족했습니다: {list}."),
    "fixed_text": ("{best}: {score} (95% interval {low} to {high}).", "{best}: {score} (95% 신뢰구간 {low}~{high})."),
    "fixed_cost": ("{minutes} of training, {share} of the weights.", "훈련 {minutes}, 가중치의 {share}만 학습."),
    "fixed_cost_all": ("{minutes} of training, all weights.", "훈련 {minutes}, 가중치 전체 학습."),
    "fixed_minutes": ("{minutes} of training.", "훈련 {minutes}."),
    "also_as_good": ("Not told apart from it: {list}.", "이와 구분되지 않는 방법: {list}."),
    "proof_text": (
        (
            "{test} on the same {n} test rows, none of them trained on: {difference} against {base} (95% interval "
            "{low} to {high}, {p})."
        ),
        "훈련에 쓰지 않은 같은 평가 {n}행에서 {test}: {base} 대비 {difference} (95% 신뢰구간 {low}~{high}, {p}).",
    ),
    "proof_none": ("No paired test compares it with {base}.", "{base:과/와} 비교한 짝지은 검정이 없습니다."),
    "paired_test": ("Paired test", "짝지은 검정"),
    "worse_list": ("On {n} other tasks: {list} got worse.", "다른 과제 {n}개 중 나빠진 것: {list}."),
    "worse_none": (
        "None of {n} other tasks is proved worse. A small loss may still hide in the intervals.",
        "다른 과제 {n}개 가운데 나빠졌다고 증명된 것은 없습니다. 작은 하락은 신뢰구간 안에 있을 수 있습니다.",
    ),
    "worse_within": ("a little worse, within the margin", "조금 나쁨, 허용 한도 안"),
    "kept": ("not worse", "나빠지지 않음"),
    "worse_within_list": ("A little worse, within the margin: {list}.", "허용 한도 안에서 조금 나빠진 것: {list}."),
    "strongest": ("{name}, the best without training", "훈련 없이 가장 나은 {name}"),
    "valid": ("valid format {share}", "형식 맞음 {share}"),
    "tokens_read": ("Tokens read", "읽는 토큰"),
    "tokens_written": ("Tokens written", "쓰는 토큰"),
    "worse_unknown": (
        "No other task was measured, so what else changed is not known.",
        "다른 과제는 재지 않아, 그 밖에 무엇이 달라졌는지 알 수 없습니다.",
    ),
    "better": ("better", "더 나음"),
    "worse": ("worse", "더 나쁨"),
    "not_told_apart": ("not told apart", "구분되지 않음"),
    # the run's verdict
    "run_running": (
        "This run has not ended: step {step} of {total}.",
        "아직 끝나지 않은 훈련입니다. {total}단계 중 {step}단계.",
    ),
    "run_failed": ("This run stopped at step {step}: {reason}", "{step}단계에서 멈췄습니다: {reason}"),
    "run_empty": ("No training step is recorded in this folder.", "이 폴더에는 훈련 기록이 없습니다."),
    "run_dev": (
        "Loss on unseen development rows went from {first} to {best}.",
        "처음 보는 개발 데이터에서 손실이 {first}에서 {best}로 바뀌었습니다.",
    ),
    "run_dev_one": ("Loss on unseen development rows: {best}.", "처음 보는 개발 데이터의 손실: {best}."),
    "run_loss": ("Training loss went from {first} to {last}.", "훈련 손실이 {first}에서 {last}로 바뀌었습니다."),
    "run_right": ("{score} of {n} {name} rows right.", "{name} {n}행 중 {score} 맞힘."),
    "run_scores": ("{metric} on {n} rows: {score}.", "{metric}: {n}행에서 {score}."),
    "run_ended": ("How it ended", "어떻게 끝났나"),
    "run_ended_text": ("{reason}, after {steps} updates in {time}.", "{reason}. {time} 동안 {steps}번 갱신했습니다."),
    "reason_done": ("Finished as planned", "계획대로 끝났습니다"),
    "reason_early": (
        "Stopped early: the development loss no longer fell",
        "개발 손실이 더 줄지 않아 일찍 멈췄습니다",
    ),
    "reason_stopped": ("Stopped from outside and saved", "밖에서 멈췄고 저장했습니다"),
    "run_kept": ("What was kept", "무엇을 남겼나"),
    "run_kept_text": (
        "The weights of step {step}, where the development loss was lowest ({loss}).",
        "개발 손실이 가장 낮았던({loss}) {step}단계의 가중치.",
    ),
    "run_kept_last": ("The weights of the last step, {step}.", "마지막 {step}단계의 가중치."),
    "run_score": ("What it scores", "점수"),
    "run_no_score": (
        "No score is in this folder yet: evaluate it before trusting it.",
        "아직 점수가 없습니다. 믿기 전에 평가해 보세요.",
    ),
    "run_before": ("Before tuning", "튜닝하기 전에는"),
    "run_before_text": (
        "On the same rows it had {metric} {before}; tuning changed it by {difference} (95% interval {low} to {high}, {p}).",
        "같은 행에서 {metric} {before}였고, 튜닝한 뒤 {difference} 달라졌습니다 (95% 신뢰구간 {low}~{high}, {p}).",
    ),
    "run_unknown": ("What is not known yet", "아직 모르는 것"),
    "run_unknown_text": ("Not measured: {list}. To find out: {command}", "재지 않은 것: {list}. 알아보려면: {command}"),
    "unknown_before": ("what it scored before tuning", "튜닝하기 전의 점수"),
    "unknown_others": ("what happened to other tasks", "다른 과제에 생긴 변화"),
    "run_learned": ("What was trained", "무엇을 학습했나"),
    "run_learned_text": (
        "{trainable} of {total} weights ({share}) by {method} with {adapter}, from {model}.",
        "{model}에서 시작해 {method}, {adapter:으로/로} 가중치 {total} 중 {trainable}({share}) 학습.",
    ),
    "overfit": (
        (
            "The development loss rose from {best} to {last} after its lowest point: later steps learned the "
            "training rows by heart."
        ),
        "개발 손실이 가장 낮은 {best}에서 {last}로 다시 올랐습니다. 그 뒤 단계는 훈련 행을 외운 것입니다.",
    ),
    "not_finite": (
        "{n} steps have a loss that is no number, the first at step {step}.",
        "손실이 숫자가 아닌 단계가 {n}개 있습니다. 처음은 {step}단계.",
    ),
    "run_memory": ("Memory ran out", "메모리 부족"),
    "run_memory_text": (
        "{n} times, first in the {part} of step {step}. A pass held {now} tokens in the end instead of {before}: slower, the same result.",
        "{n}번, 처음은 {step}단계의 {part}. 한 번에 처리하는 토큰이 {before}에서 {now}개로 줄었습니다. 느려질 뿐 결과는 같습니다.",
    ),
    "run_memory_prompts": (
        "{n} times, first in the {part} of step {step}. {now} prompts were answered at once in the end instead of {before}: slower, no worse.",
        "{n}번, 처음은 {step}단계의 {part}. 한 번에 답하는 질문이 {before}개에서 {now}개로 줄었습니다. 느려질 뿐입니다.",
    ),
    "pass_forward": ("forward pass", "순전파"),
    "pass_backward": ("backward pass", "역전파"),
    "pass_evaluation": ("evaluation", "평가"),
    "pass_rollouts": ("rollouts", "답 뽑기"),
    "run_warnings": ("Warning: is the reward being gamed?", "경고: 보상만 노리고 있나?"),
    "run_warning": ("Step {step}: {text}", "{step}단계: {text}"),
    "run_warning_again": ("It was given {n} times in all.", "모두 {n}번 나타났습니다."),
    "sign_hidden": (
        "the reward rose by {reward} while the hidden metric changed by {hidden}: it is paid for something else.",
        "보상은 {reward} 올랐지만 숨긴 지표는 {hidden} 변했습니다. 보상이 다른 것에 주어지고 있습니다.",
    ),
    "sign_length": (
        "answers grew by {length} tokens as the reward rose: it may be paid for length.",
        "보상이 오르면서 답이 토큰 {length}개만큼 길어졌습니다. 길이에 보상이 주어지는지 살펴보세요.",
    ),
    "sign_repetition": (
        "the share of answers that repeats what they said rose by {repetition}.",
        "답에서 같은 말을 되풀이하는 비율이 {repetition} 올랐습니다.",
    ),
    "sign_kl": (
        "the KL divergence to the starting model reached {kl} nats; the limit is {limit}.",
        "처음 모델과의 KL이 {kl}냇이 되어 한도 {limit:을/를} 넘었습니다.",
    ),
    "run_of": ("{method} on {model}", "{model}에 {method} 훈련"),
    # sections: title and how to read it
    "ladder": ("What was tried, and how well it works", "시도한 방법과 점수"),
    "ladder_help": (
        (
            "The dot is the value measured on the test rows, the line its 95% interval: the values that these rows "
            "do not rule out. The same frozen rows for all."
        ),
        (
            "점은 평가 행에서 잰 값, 선은 95% 신뢰구간, 곧 이 행들로는 배제할 수 없는 값의 범위입니다. 모두 같은 "
            "고정된 행으로 쟀습니다."
        ),
    ),
    "scores": ("Scores", "점수"),
    "scores_help": (
        "The dot is the measured value, the line its 95% interval.",
        "점은 잰 값, 선은 95% 신뢰구간입니다.",
    ),
    "tests": ("Is the difference real?", "차이는 진짜인가?"),
    "tests_help": (
        (
            "Both answered the same rows, so they are compared row by row. An interval that crosses zero means: not "
            "told apart."
        ),
        "둘이 같은 행에 답했으므로 행마다 짝지어 비교합니다. 구간이 0에 걸치면 구분되지 않는 것입니다.",
    ),
    "against": ("{b} against {a}", "{b} ({a} 대비)"),
    "cost": ("What each one costs", "각 방법의 비용"),
    "cost_help": (
        (
            "Tokens are what the model reads and writes for one answer. Examples in the prompt are paid again with "
            "every question; training is paid once."
        ),
        "토큰은 답 하나를 위해 읽고 쓰는 양입니다. 프롬프트의 예시는 질문마다 다시 치르고, 훈련은 한 번만 치릅니다.",
    ),
    "panel": ("Other tasks: before and after", "다른 과제: 전과 후"),
    "panel_help": (
        "Tuning for one task can harm others. The same small fixed panel before (ring) and after (dot).",
        "한 과제에 맞추면 다른 과제가 나빠질 수 있습니다. 같은 작은 과제 모음을 전(고리)과 후(점)에 쟀습니다.",
    ),
    "worst": ("The ten worst rows", "가장 나쁜 열 행"),
    "worst_help": (
        (
            "Wrong answers, those the model was surest of on top where that is known. Read them: is the model wrong, "
            "or the label?"
        ),
        (
            "틀린 답입니다. 확신을 알 수 있으면 가장 확신한 것부터 놓았습니다. 모델이 틀렸는지, 정답이 틀렸는지 읽어 "
            "보세요."
        ),
    ),
    "curves": ("How it learned", "학습 과정"),
    "curves_help": (
        (
            "Loss is how surprised the model is by the right answer, per trained token. When development loss rises "
            "while training loss falls, it is learning by heart."
        ),
        (
            "손실은 정답에 얼마나 놀라는지를 학습 토큰당 잰 값입니다. 훈련 손실은 내리는데 개발 손실이 오르면 외우고 "
            "있는 것입니다."
        ),
    ),
    "memory": ("Memory of one training step", "훈련 한 단계의 메모리"),
    "memory_help": (
        (
            "Measured on this machine, not computed. Weights stay; gradients and optimiser state exist only for "
            "trained weights; activations grow with batch and length."
        ),
        (
            "계산이 아니라 이 기계에서 잰 값입니다. 가중치는 그대로이고, 기울기와 옵티마이저 상태는 학습하는 "
            "가중치에만, 활성값은 배치와 길이에 따라 늘어납니다."
        ),
    ),
    "seeds": ("From seed to seed", "시드에 따른 차이"),
    "seeds_help": (
        "Runs beside this one that differ in nothing but their seed. A gain smaller than this spread may be luck.",
        "이 실행과 시드만 다른 실행들입니다. 이 차이보다 작은 향상은 우연일 수 있습니다.",
    ),
    "seeds_runs": ("Runs", "실행"),
    "seeds_mean": ("mean {mean}, 95 % interval {low} to {high}", "평균 {mean}, 95 % 구간 {low} ~ {high}"),
    "seeds_agree": ("two of the runs agree on {share} of the rows", "두 실행이 {share}의 행에서 일치합니다"),
    "seeds_agree_means": (
        "Of reward models: how consistently they prefer the same answer.",
        "보상 모델이라면 같은 답을 얼마나 일관되게 선호하는지를 뜻합니다.",
    ),
    "seeds_spread": (
        "Standard deviation {sd}, from {least} to {most}.",
        "표준편차 {sd}, 최소 {least}, 최대 {most}.",
    ),
    "plan": ("Memory: planned and measured", "메모리: 예측과 실측"),
    "plan_help": (
        (
            "Before the first step the real step was simulated without its numbers. Planned is what the whole process "
            "was to hold at its highest moment, libraries included."
        ),
        (
            "첫 단계 전에 실제 단계를 숫자 없이 흉내 내어 예측했습니다. 라이브러리까지 포함해 프로세스 전체가 가장 많이 "
            "차지할 메모리입니다."
        ),
    ),
    "plan_predicted": ("Planned", "예측"),
    "plan_bar": ("give or take {share}", "오차 {share} 이내로 예상"),
    "plan_measured": ("Measured", "실측"),
    "plan_found": ("{found}; the plan was off by {off}", "{found}, 예측 오차 {off}"),
    "plan_within": ("within its error bar", "예상한 오차 안"),
    "plan_outside": ("outside its error bar", "예상한 오차를 벗어남"),
    "plan_step": ("Planned, a step", "예측, 한 스텝"),
    "plan_step_measured": ("Measured, a step", "실측, 한 스텝"),
    "memory_planned_help": (
        (
            "Computed, not measured. Gradients and optimiser state exist only for trained weights; activations grow "
            "with batch and length."
        ),
        (
            "잰 값이 아니라 계산한 값입니다. 기울기와 옵티마이저 상태는 학습하는 가중치에만, 활성값은 배치와 길이에 "
            "따라 늘어납니다."
        ),
    ),
    "data": ("The data", "데이터"),
    "data_help": (
        "Every row that came in is either used or named as dropped, so the counts add up.",
        "들어온 행은 모두 쓰였거나 버린 이유가 적혀 있어 수가 맞아떨어집니다.",
    ),
    "settings": ("Hyperparameters", "하이퍼파라미터"),
    "settings_help": (
        "Chosen before the run and constant through it. The parameters, next, are what the run learned.",
        "훈련 전에 정하고 끝까지 바뀌지 않습니다. 다음의 파라미터는 훈련이 학습한 값입니다.",
    ),
    "weights": ("Parameters", "파라미터"),
    "weights_help": (
        "The learned numbers, by part of the model. Frozen ones get no gradient and no optimiser state.",
        "학습되는 수를 모델의 부분별로 셉니다. 고정된 것은 기울기도 옵티마이저 상태도 없습니다.",
    ),
    "batch": ("Batch and updates", "배치와 갱신"),
    "batch_help": (
        "Updates are predicted from rows, batch and epochs before the run, and counted during it.",
        "갱신 수는 행, 배치, 에폭으로 미리 계산하고 훈련하며 세었습니다.",
    ),
    "row_losses": ("Loss row by row", "행마다의 손실"),
    "row_losses_help": (
        "The rows the model finds hardest are often mislabelled; the easiest may be duplicates.",
        "가장 어려운 행은 정답이 틀린 경우가 많고, 가장 쉬운 행은 중복일 수 있습니다.",
    ),
    "samples": ("Answers during training", "훈련 중의 답"),
    "samples_help": ("The same prompts, answered as training went on.", "같은 질문에 훈련이 진행되며 답한 것입니다."),
    "choices": ("Every value chosen", "정한 값 전체"),
    "choices_help": (
        "The project file as it was filled in: given and default values alike.",
        "주어진 값과 기본값을 모두 채운 프로젝트 파일입니다.",
    ),
    "figures": ("What the figures mean", "숫자의 뜻"),
    "figures_help": ("Told by the training method itself.", "훈련 방법이 스스로 설명한 것입니다."),
    "manifest": ("Where this comes from", "출처와 재현"),
    "manifest_help": (
        "Enough to repeat the run: versions, machine, seed, hashes.",
        "다시 돌리는 데 필요한 것: 버전, 기계, 시드, 해시.",
    ),
    # columns and small words
    "variant": ("Variant", "방법"),
    "task": ("Task", "과제"),
    "score": ("Score", "점수"),
    "interval": ("95% interval", "95% 신뢰구간"),
    "interval_text": ("{low} to {high}", "{low}~{high}"),
    "rows": ("Rows", "행"),
    "num_rows": ("{n} rows", "{n}행"),
    "num_test_rows": ("{n} test rows", "평가 {n}행"),
    "num_train_rows": ("{n} training rows", "훈련 {n}행"),
    "num_dev_rows": ("{n} development rows", "개발 {n}행"),
    "dot_says": (
        "{name}: {score}, 95% interval {low} to {high}, {n} rows",
        "{name}: {score}, 95% 신뢰구간 {low}~{high}, {n}행",
    ),
    "test_says": (
        "{name}: difference {difference}, 95% interval {low} to {high}: {verdict}",
        "{name}: 차이 {difference}, 95% 신뢰구간 {low}~{high}: {verdict}",
    ),
    "scale": ("Scale from {low} to {high}", "눈금 {low}~{high}"),
    "difference": ("Difference", "차이"),
    "difference_scale": ("Difference, from {low} to {high}", "차이의 눈금 {low}~{high}"),
    "tokens_per_answer": ("Tokens per answer", "답당 토큰"),
    "seconds_per_answer": ("Time per answer", "답당 시간"),
    "trained_weights": ("Weights trained", "학습한 가중치"),
    "training_time": ("Training time", "훈련 시간"),
    "none_trained": ("none", "없음"),
    "before": ("before", "전"),
    "after": ("after", "후"),
    "kind_prompt": ("Prompt", "프롬프트"),
    "kind_examples": ("Examples in the prompt", "프롬프트에 예시"),
    "kind_retrieval": ("Retrieved examples", "검색한 예시"),
    "kind_lora": ("LoRA tuning", "LoRA 튜닝"),
    "kind_full": ("Full tuning", "전체 튜닝"),
    "kind_features": ("Features", "특징 추출"),
    "kind_other": ("Other", "기타"),
    "question": ("Prompt", "질문"),
    "expected": ("Expected", "정답"),
    "answered": ("Answered", "모델의 답"),
    "empty": ("(empty)", "(빈 답)"),
    "origin": ("Origin", "출처"),
    "loss": ("Loss", "손실"),
    "train_loss": ("Training loss", "훈련 손실"),
    "smoothed": ("running mean", "이동 평균"),
    "dev_loss": ("Development loss", "개발 손실"),
    "learning_rate": ("Learning rate", "학습률"),
    "grad_norm": ("Gradient norm", "기울기 크기"),
    "speed": ("Tokens per second", "초당 토큰"),
    "memory_used": ("Memory", "메모리"),
    "by_step": ("{name} by update", "갱신에 따른 {name}"),
    "best_step": ("kept: {step}", "남긴 단계: {step}"),
    "curve_says": (
        "from {first} to {last}, lowest {lowest}, over {n} points",
        "{first}에서 {last}로, 최저 {lowest}, 점 {n}개",
    ),
    "part_weights": ("Weights", "가중치"),
    "part_masters": ("Weights in fp32", "fp32 가중치"),
    "part_gradients": ("Gradients", "기울기"),
    "part_optimiser": ("Optimiser state", "옵티마이저 상태"),
    "part_activations": ("Activations", "활성값"),
    "part_other": ("Other", "그 밖"),
    "part_helpers": ("Frozen models beside it", "곁의 얼린 모델"),
    "total": ("Total", "합계"),
    "share": ("Share", "비율"),
    "peak_is": ("peak {value}", "최고 {value}"),
    "peak": ("Peak of the process", "프로세스 최고점"),
    "file": ("Origin", "출처"),
    "rows_in": ("In", "들어옴"),
    "rows_out": ("Used", "쓰임"),
    "rows_dropped": ("Dropped", "버림"),
    "adds_up": (
        "{rows_in} in = {rows_out} used + {rows_dropped} dropped",
        "들어온 {rows_in} = 쓴 {rows_out} + 버린 {rows_dropped}",
    ),
    "does_not_add_up": (
        "These do not add up: {rows_in} in, {rows_out} used, {rows_dropped} dropped",
        "수가 맞지 않습니다: 들어온 {rows_in}, 쓴 {rows_out}, 버린 {rows_dropped}",
    ),
    "splits": ("Split", "나눈 곳"),
    "split_train": ("Training", "훈련"),
    "split_dev": ("Development", "개발"),
    "split_test": ("Test", "평가"),
    "lengths": ("Length of a row in tokens", "행의 길이(토큰)"),
    "lengths_characters": ("Length of a row in characters", "행의 길이(글자)"),
    "length_prompt": ("prompt", "질문"),
    "length_answer": ("answer", "답"),
    "length_text": ("text", "글"),
    "characters": ("Characters: median, 95 %, longest", "글자 수: 중앙값, 95 %, 최대"),
    "spread": ("{median} · {p95} · {most}", "{median} · {p95} · {most}"),
    "duplicates": (
        "{n} rows repeat another; they are never on two sides of the split.",
        "{n}행이 다른 행과 같습니다. 나눈 양쪽에 걸치지는 않습니다.",
    ),
    "prompts_in_train_and_test": (
        "{n} test rows have a prompt that is also in training, with another answer.",
        "평가 {n}행의 질문이 다른 답과 함께 훈련에도 있습니다.",
    ),
    "lost_characters": (
        "{n} rows hold the mark of a lost character (U+FFFD).",
        "{n}행에 깨진 글자 표시(U+FFFD)가 있습니다.",
    ),
    "no_label": ("(none of them)", "(라벨 아님)"),
    "lengths_says": ("median {median}, longest {longest}", "중앙값 {median}, 최대 {longest}"),
    "limit": ("limit {n}", "한도 {n}"),
    "languages": ("Languages", "언어"),
    "lang_english": ("English", "영어"),
    "lang_korean": ("Korean", "한국어"),
    "lang_other": ("other", "기타"),
    "labels": ("Labels", "라벨"),
    "labels_says": ("{n} labels, {least} to {most} rows each", "라벨 {n}개, 각 {least}~{most}행"),
    "why_dropped": ("What was dropped, and why", "버린 행과 이유"),
    "nothing_dropped": ("Nothing was dropped.", "버린 행이 없습니다."),
    "examples": ("Rows as the model sees them", "모델이 보는 행"),
    "trained_on": ("trained on", "학습함"),
    "not_trained_on": ("read only", "읽기만 함"),
    "confusion": ("Which labels are confused", "헷갈린 라벨"),
    "confusion_help": (
        "Rows of the first label that were answered with the second.",
        "앞 라벨의 행에 뒤 라벨로 답한 수입니다.",
    ),
    "confused_as": ("{truth} → {answer}", "{truth} → {answer}"),
    "confusion_none": ("No label was taken for another.", "다른 라벨로 잘못 답한 것이 없습니다."),
    "value": ("Value", "값"),
    "module": ("Part of the model", "모델의 부분"),
    "trainable": ("Trained", "학습"),
    "frozen": ("Frozen", "고정"),
    "effective_batch": ("Effective batch", "실제 배치"),
    "batch_sum": (
        "{per_pass} per pass × {accumulation} accumulated × {devices} = {effective} rows per update",
        "한 번에 {per_pass} × 누적 {accumulation} × {devices} = 갱신마다 {effective}행",
    ),
    "batch_about": (
        "about {per_pass} per pass × {accumulation} accumulated × {devices} = {effective} rows per update",
        "한 번에 약 {per_pass} × 누적 {accumulation} × {devices} = 갱신마다 {effective}행",
    ),
    "one_device": ("1 device", "장치 1"),
    "num_devices": ("{n} devices", "장치 {n}"),
    "batch_only": ("{effective} rows per update", "갱신마다 {effective}행"),
    "advice_small": (
        "Advice: under 32 rows the gradient is noisy; 32 or more is a usual start.",
        "조언: 32행보다 적으면 기울기에 잡음이 많습니다. 32 이상에서 시작하는 것이 보통입니다.",
    ),
    "advice_power": (
        "Advice: a power of two ({below} or {above}) fits hardware better.",
        "조언: 2의 거듭제곱({below} 또는 {above})이 하드웨어에 더 맞습니다.",
    ),
    "updates": ("Updates", "갱신 횟수"),
    "updates_equal": ("{n} predicted = {n} counted", "예상 {n} = 실제 {n}"),
    "updates_differ": ("{predicted} predicted, {counted} counted", "예상 {predicted}, 실제 {counted}"),
    "updates_counted": ("{counted} counted", "실제 {counted}"),
    "updates_early": ("The run ended before its last planned update.", "계획한 마지막 갱신 전에 끝났습니다."),
    "seen": ("Times each row was seen", "각 행을 본 횟수"),
    "seen_equal": ("each of {n} rows {times} times", "{n}행 각각 {times}번"),
    "seen_between": ("{low} to {high} times, {n} rows", "{n}행, {low}~{high}번"),
    "epochs": ("Epochs", "에폭"),
    "tokens": ("Tokens", "토큰"),
    "tokens_trained": ("{tokens} read, {trained} of them trained on", "{tokens} 읽음, 그중 {trained} 학습"),
    "time": ("Time", "시간"),
    "hardest": ("Hardest rows", "가장 어려운 행"),
    "easiest": ("Easiest rows", "가장 쉬운 행"),
    "rows_by_loss": ("Rows by loss", "손실별 행의 수"),
    "step_word": ("step {step}", "{step}단계"),
    "test_reads": ("Reads of the test split", "평가 데이터를 읽은 횟수"),
    "test_reads_text": ("{n} times: {list}", "{n}번: {list}"),
    "test_reads_none": ("never", "없음"),
    "budget": ("Time budget", "시간 예산"),
    "seed": ("Seed", "시드"),
    "parent": ("Made from", "바탕이 된 기록"),
    "created": ("Started", "시작"),
    "command": ("Command", "명령"),
    "versions": ("Versions", "버전"),
    "hardware": ("Machine", "기계"),
    "cores": ("{n} cores", "코어 {n}개"),
    "hashes": ("Hashes", "해시"),
    "missing": (
        "Not in this page, because the folder does not have it: {list}.",
        "폴더에 없어 이 페이지에 넣지 못한 것: {list}.",
    ),
    "not_shown": ("In report.json but not understood: {list}.", "report.json에 있지만 알 수 없는 항목: {list}."),
    "model": ("Model", "모델"),
    "method": ("Method", "훈련 방법"),
    "adapter": ("Adapter", "어댑터"),
    "method_full": ("all weights", "전체 가중치"),
    "best": ("best", "최고"),
    # terminal
    "runs_none": ("No runs under {folder}.", "{folder}에 훈련 기록이 없습니다."),
    "name": ("Name", "이름"),
    "lineage": ("Lineage", "계보"),
    "written": ("Report: {path}", "보고서: {path}"),
    **WORDS,
}


class _Word(str):
    """A value that knows which Korean particle follows it: f"{_Word('행'):은/는}" -> "행은"."""

    def __format__(self, spec: str) -> str:
        return str(self) + particle(self, spec) if "/" in spec else super().__format__(spec)


def particle(word: str, pair: str) -> str:
    """Choose of a pair such as 은/는, 이/가, 과/와, 으로/로 by the last sound of the word: ("LoRA", "은/는") -> "는"."""
    closed, open_ = pair.split("/")
    last = word.rstrip(" )]}\"'”’.%")[-1:].lower()
    if not last:
        return open_
    if "가" <= last <= "힣":
        final = (ord(last) - ord("가")) % 28
        return open_ if not final or (closed == "으로" and final == 8) else closed  # 8 = ㄹ: 서울로
    if last.isdigit():
        return closed if last in "036" or (last in "178" and closed != "으로") else open_
    tail = word.rstrip(" )]}\"'”’.%")[-2:].lower()
    return closed if last in "mn" or tail == "ng" or (last == "l" and closed != "으로") else open_


def speaker(lang: str) -> Callable[..., str]:
    """The function that says a label in a language; an unknown language is a ValueError."""
    if lang not in LANGUAGES:
        raise ValueError(f"lang is {lang!r}, it can be {' or '.join(LANGUAGES)}")
    column = LANGUAGES.index(lang)

    def say(label: str, **values: Any) -> str:
        words = {name: _Word(value) for name, value in values.items()}
        return LABELS[label][column].format_map(words)

    return say


def fields(text: str) -> set[str]:
    """The names of the values that a label wants."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}
