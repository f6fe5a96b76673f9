"""Tokens: only the rows of new tokens in embedding and head train; every other number keeps its bytes.

Use it for words the base has never seen, added with `add_tokens`: their rows learn to say and to read them, and nothing else can be
forgotten. (Under every other adapter these rows train too.) PEFT's TRAINABLE_TOKENS reads the file.

Source: PEFT's trainable tokens (huggingface.co/docs/peft, 2025).

Formula: E'[t] learned for the new tokens t; E'[t] = E[t] for all others.

tokens: 임베딩과 출력층에서 새 토큰의 행만 학습하고 나머지는 한 바이트도 바꾸지 않습니다. add_tokens로 넣은, 기본 모델이 본 적 없는 단어를
익힐 때 씁니다(다른 어댑터에서도 이 행들은 함께 학습됩니다). PEFT의 TRAINABLE_TOKENS 형식으로 저장합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Tokens:
    """Rows of embedding and head."""

    ids: tuple[int, ...] = ()
    """Tokens whose rows train besides those of add_tokens, by their ids.

    add_tokens 말고도 행을 학습할 토큰의 번호."""

    lr: ClassVar[float] = 1e-3  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 0.9  # as the head's
    file: ClassVar[str] = "adapter"
    start: ClassVar[str] = (
        "near"  # the logits of a few rows alone: some processors add up their products in another order
    )
    holds_rows: ClassVar[bool] = True  # it writes and reads the trained rows itself

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze all and let the rows `ids` train; those of added tokens follow (train_rows)."""
        from tunesmith.adapters._rows import train_rows
        from tunesmith.core.errors import SettingError

        size = len(net.get_input_embeddings().weight)
        if bad := [id for id in self.ids if not 0 <= id < size]:
            raise SettingError(f"adapter.ids holds {bad[0]}; {type(net).__name__} has {size} rows.")
        net.requires_grad_(False)
        return train_rows(net, sorted(set(self.ids)))

    def merge(self, net: Any) -> None:
        """Write the rows into the tables and put the plain layers back."""
        from tunesmith.adapters._rows import merge_rows

        merge_rows(net)

    def tensors(self, net: Any) -> dict[str, Any]:
        """The rows under PEFT's names."""
        from tunesmith.adapters._rows import KEY, row_tensors

        return {name.replace(KEY, KEY.rpartition(".")[2]): value for name, value in row_tensors(net).items()}

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        from tunesmith.adapters._peft import peft_config
        from tunesmith.adapters._rows import SETTING, row_config

        rows = row_config(net)[SETTING]
        ids = next(iter(rows.values()))
        return peft_config("TRAINABLE_TOKENS", base, token_indices=ids, target_modules=list(rows), init_weights=True)

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        return config["peft_type"] == "TRAINABLE_TOKENS"

    @staticmethod
    def read(
        config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path
    ) -> tuple["Tokens", list[str]]:
        """Let the saved rows stand for the base's. Where only the embedding's were trained, the head's stay the base's."""
        from tunesmith.adapters._peft import take_named
        from tunesmith.adapters._rows import train_rows

        rows = {name: value for name, value in tensors.items() if name.endswith(".trainable_tokens_delta")}
        adapter = Tokens(ids=tuple(int(id) for id in config["token_indices"]))
        net.requires_grad_(False)
        names = train_rows(net, adapter.ids, with_head=len(rows) > 1)
        wanted = adapter.tensors(net)
        own = {name: value for name, value in tensors.items() if name in wanted or name not in rows}
        # tied tables share their rows: PEFT writes them under both names, we under one
        take_named(wanted, config, own if len(wanted) == 1 else tensors, net, source)
        return adapter, names
