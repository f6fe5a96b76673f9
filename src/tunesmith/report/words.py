"""What verbs say on a terminal while they work, English and Korean side by side: part of report/labels.py's table.

Words of the project file (lr, train, dev) and of events stay as they are written there.
"""

WORDS: dict[str, tuple[str, str]] = {
    # tunesmith data: data/card.py
    "card_shape": ("shape {shape}", "모양 {shape}"),
    "card_not_used": ("not used: {list}", "쓰지 않은 열: {list}"),
    "card_in": ("in", "들어옴"),
    "card_kept": ("kept", "남음"),
    "card_dropped": ("dropped", "뺌"),
    "card_all": ("all", "합계"),
    "card_joined": ("{n} rows joined to the first of their group", "{n}행을 그 묶음의 첫 행에 합쳤습니다"),
    "card_characters": ("characters: median, 95 %, most", "글자 수: 중앙값, 95 %, 최대"),
    "card_labels": (
        "{n} different labels in train, the largest {share} %, the smallest {smallest}: {most}",
        "train에 서로 다른 라벨 {n}개, 가장 큰 것 {share} %, 가장 작은 것 {smallest}행: {most}",
    ),
    "card_answers": (
        "{n} different answers in train, the largest {share} %, the smallest {smallest}: {most}",
        "train에 서로 다른 답 {n}개, 가장 큰 것 {share} %, 가장 작은 것 {smallest}행: {most}",
    ),
    "card_prompts": (
        "{n} different prompts in train; a prompt is never on two sides of the split",
        "train에 서로 다른 질문 {n}개. 같은 질문은 한쪽에만 들어갑니다",
    ),
    "card_group": ("{n} texts in a group", "한 묶음에 글 {n}개"),
    "card_repeats": (
        "{n} rows repeat another (kept, never on two sides of the split; steps: [dedup] drops them)",
        "{n}행은 다른 행과 같습니다(남기되 한쪽에만 넣습니다. steps: [dedup]이면 뺍니다)",
    ),
    "card_shared_prompts": (
        "{n} test rows have a prompt that is also in train, with another answer",
        "test의 {n}행은 train에도 있는 질문에 다른 답입니다",
    ),
    "card_lost": (
        "{n} rows hold the mark of a lost character (U+FFFD)",
        "{n}행에 잃어버린 글자의 표시(U+FFFD)가 있습니다",
    ),
    "card_delimiter": ("delimiter {mark}", "구분자 {mark}"),
    "card_tab": ("tab", "탭"),
    "card_header": ("first row names the columns", "첫 행이 열 이름"),
    "card_no_header": ("no header: column_1, column_2, ...", "머리글 없음: column_1, column_2, ..."),
    "data_first": ("First rows:", "처음 몇 행:"),
    "data_tokens_colour": ("Tokens of {name}, trained on in green:", "{name}의 토큰, 학습하는 것은 초록:"),
    "data_tokens_marks": ("Tokens of {name}, trained on between ⟦ ⟧:", "{name}의 토큰, 학습하는 것은 ⟦ ⟧ 사이:"),
    "data_written": ("Written: {path}", "저장: {path}"),
    # tunesmith train: what it chose (api/train.py, api/build.py)
    "train_parameters": ("{name} ({n} parameters)", "{name} (파라미터 {n}개)"),
    "train_rows": ("{train} train, {dev} dev, {test} test", "train {train}행, dev {dev}행, test {test}행"),
    "train_examples": ("{n}, {tokens} tokens, {trained} trained on", "{n}개, 토큰 {tokens}개, 그중 {trained}개 학습"),
    "train_left_out": (
        "{n} train rows, too long or with nothing to train on: data/dropped.jsonl",
        "train {n}행은 너무 길거나 학습할 것이 없습니다: data/dropped.jsonl",
    ),
    "train_cut": (
        "{n} train rows lost the beginning of their prompt (too_long=trim_prompt)",
        "train {n}행은 질문의 앞부분이 잘렸습니다(too_long=trim_prompt)",
    ),
    "train_batch": (
        "{batch} = about {per_pass} per pass x {passes} accumulated x {devices} device(s)",
        "{batch} = 한 번에 약 {per_pass} x 누적 {passes} x 장치 {devices}",
    ),
    "train_advice": ("(advice: {list})", "(조언: {list})"),
    "train_advice_small": ("32 or more is steadier", "32 이상이 더 안정적입니다"),
    "train_advice_power": ("powers of two fit the hardware", "2의 거듭제곱이 하드웨어에 맞습니다"),
    "why_lr": (
        "{base} for a model {reference} wide, carried over to {width}",
        "너비 {reference}인 모델의 {base:을/를} 너비 {width:으로/로} 옮김",
    ),
    "why_one_pass": ("a step in one pass: train.update_in_backward", "한 번에 한 단계: train.update_in_backward"),
    "why_memory": ("a quarter of the memory; it never changes the result", "메모리의 4분의 1. 결과는 바뀌지 않습니다"),
    "why_epochs": ("{n} epochs of {steps} steps", "{steps}단계인 에폭 {n}번"),
    "why_minutes": ("{n} minutes at {seconds} s a step", "단계마다 {seconds}초로 {n}분"),
    # while it trains: train/progress.py
    "step_line": (
        "step {step}/{steps}  epoch {epoch}  loss {loss}  lr {lr}  {speed} tokens/s  {memory} GB  {left} left",
        "{step}/{steps}단계  에폭 {epoch}  손실 {loss}  lr {lr}  초당 {speed}토큰  {memory} GB  {left} 남음",
    ),
    "step_eval": ("step {step}: dev loss {loss}", "{step}단계: dev 손실 {loss}"),
    "step_accuracy": ("accuracy {share}", "정확도 {share}"),
    "step_best": ("(best so far)", "(지금까지 최고)"),
    "step_warning": ("warning at step {step}: {message}", "{step}단계에서 경고: {message}"),
    "step_memory": (
        "memory ran out in the {part} pass of step {step}: passes hold {now} tokens from now on, not {before}",
        "{step}단계의 {part}에서 메모리가 모자랐습니다. 이제부터 한 번에 {before} 대신 토큰 {now}개를 봅니다",
    ),
    "step_memory_evaluation": (
        "memory ran out in the evaluation after step {step}: its passes hold {now} tokens from now on, not {before}",
        "{step}단계 뒤의 평가에서 메모리가 모자랐습니다. 이제부터 한 번에 {before} 대신 토큰 {now}개를 봅니다",
    ),
    "step_memory_rollouts": (
        "memory ran out in the rollouts of step {step}: {now} prompts are answered at once from now on, not {before}",
        "{step}단계의 답을 뽑다가 메모리가 모자랐습니다. 이제부터 한 번에 {before} 대신 질문 {now}개에 답합니다",
    ),
    "step_paused": (
        "paused at step {step}: goes on when the pause file is gone",
        "{step}단계에서 쉽니다. pause 파일이 없어지면 계속합니다",
    ),
    "step_early": (
        "stopped early at step {step}: dev loss was best at step {best}",
        "{step}단계에서 일찍 멈췄습니다. dev 손실은 {best}단계에서 가장 낮았습니다",
    ),
    "seconds": ("{n} s", "{n}초"),
    "minutes": ("{n} min {rest} s", "{n}분 {rest}초"),
    "hours": ("{n} h {rest} min", "{n}시간 {rest}분"),
    # at its end: api/train.py
    "trained": (
        "Trained {steps} steps in {time}: last loss {loss}",
        "{steps}단계를 {time}에 훈련했습니다. 마지막 손실 {loss}",
    ),
    "trained_together": (
        "Trained {steps} steps in {processes} processes: last loss {loss}.",
        "프로세스 {processes}개로 {steps}단계를 훈련했습니다. 마지막 손실 {loss}.",
    ),
    "trained_best": (", best dev loss {loss} at step {step}", ", 가장 낮은 dev 손실 {loss}({step}단계)"),
    "train_result": ("Result: {path}", "결과: {path}"),
    "train_pushed": ("On the hub: {url}", "허브에 올림: {url}"),
    "train_next": ("Next:   {list}", "다음:   {list}"),
    "train_stopped": (
        "Stopped at step {step} of {steps}; nothing is lost.",
        "{steps}단계 중 {step}단계에서 멈췄습니다. 잃은 것은 없습니다.",
    ),
    "train_stopped_together": ("Stopped; nothing is lost.", "멈췄습니다. 잃은 것은 없습니다."),
    "train_go_on": ("Go on: {command}", "이어서: {command}"),
    "train_warned": ("Warning at step {step}: {message}", "{step}단계에서 경고: {message}"),
}
