"""Prefix tuning: trained keys and values in front of every text, in every layer (Li & Liang 2021, arXiv 2101.00190).

Stronger than a soft prompt, since each layer has its own, and as easy to keep: 2 x layers x n x width numbers. It starts as the
keys and values of real words (of the vocabulary, or of a `text` that says the task), which the paper found to matter most.
It takes n positions of context, and rows run padded instead of packed. Use it for a large base that many tasks share, where a soft
prompt is too weak. PEFT's format.

Formula: keys' = [K_p, keys], values' = [V_p, values] in every layer, with K_p and V_p learned.

prefix: 모든 글 앞에, 모든 층마다 학습한 키와 값을 둡니다. 층마다 따로 있어 소프트 프롬프트보다 강합니다. 논문에서 가장 중요하다고 한 대로 실제
단어(어휘, 또는 과제를 설명하는 `text`)의 키와 값에서 시작합니다. 문맥 n자리를 쓰고, 행은 묶지 않고 채움으로 계산합니다. PEFT 형식으로 저장합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tunesmith.core.limits import at_least

COMMON = 5000  # words are drawn from the first rows: tokenizers number the most common ones first


@dataclass(frozen=True)
class Prefix:
    """Trained keys and values."""

    virtual: int = 16
    """How many positions stand before every text.

    모든 글 앞에 둘 자리의 수."""

    text: str = ""
    """Words whose keys and values they start as, repeated or cut to `virtual` tokens. Empty = words drawn from the vocabulary.

    시작할 때 그 키와 값을 쓸 단어들. 비우면 어휘에서 뽑습니다."""

    lr: ClassVar[float] = 5e-3  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 1.4  # 3e-1 is good on `mini`
    file: ClassVar[str] = "adapter"
    start: ClassVar[str] = "elsewhere"  # words stand before the text that were not there
    merges: ClassVar[bool] = False
    padded: ClassVar[str] = "a trained prefix stands in the cache of each row, so rows are padded"

    def __post_init__(self) -> None:
        at_least("adapter.virtual", self.virtual, 1)

    def attach(self, net: Any, *, seed: int = 0, tokenizer: Any = None) -> list[str]:
        """Freeze the network and put keys and values of words before every text. Returns the body's name for them."""
        import torch

        from tunesmith.adapters._prefix import flat
        from tunesmith.core.errors import SettingError

        self._check(net)
        table = net.get_input_embeddings().weight
        if self.text:
            words = tokenizer.encode(self.text) if tokenizer is not None else []
            if not words:
                raise SettingError(
                    f"adapter.text {self.text!r} gives no tokens to start from",
                    fix="Leave it out, or attach with the tokenizer.",
                )
            ids = torch.tensor([words[number % len(words)] for number in range(self.virtual)])
        else:
            draw = torch.Generator().manual_seed(seed)
            ids = torch.randint(min(COMMON, len(table)), (self.virtual,), generator=draw)
        training = net.training
        net.eval()
        with torch.no_grad():
            cache = net.base_model(input_ids=ids[None].to(table.device), use_cache=True).past_key_values
        net.train(training)
        return self._put(net, flat([(layer.keys, layer.values) for layer in cache.layers]))

    def _check(self, net: Any) -> None:
        from tunesmith.core.errors import SettingError
        from tunesmith.model.generate import can_merge
        from tunesmith.model.kinds import family

        if family(net.config) != "decoder" or not can_merge(net):
            raise SettingError(
                f"a prefix is keys and values of a decoder's attention; {type(net).__name__} has another kind of memory",
                fix="Use adapter: lora.",
            )

    def _put(self, net: Any, start: Any) -> list[str]:
        from tunesmith.adapters._prefix import Prefix as Keys
        from tunesmith.adapters._prefix import hang
        from tunesmith.adapters._targets import body_prefix

        heads, layers = _heads(net.config), net.config.num_hidden_layers
        net.requires_grad_(False)
        hang(net.base_model, Keys(start, layers, heads))
        return [f"{body_prefix(net)}prefix"]

    def merge(self, net: Any) -> None:
        """Refused: keys and values before a text are no weights of the network."""
        from tunesmith.core.errors import ModelError

        raise ModelError(
            "a trained prefix cannot be merged: its keys and values stand before the text and are no weights of the network",
            fix="Keep the adapter's folder; tunesmith and PEFT read it as it is.",
        )

    def tensors(self, net: Any) -> dict[str, Any]:
        """Keys and values under PEFT's name."""
        return {"prompt_embeddings": net.base_model.prefix.prompt.detach()}

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        from tunesmith.adapters._peft import peft_config

        heads, layers = _heads(net.config), net.config.num_hidden_layers
        width = net.base_model.prefix.prompt.shape[1] // (2 * layers)
        return peft_config(
            "PREFIX_TUNING",
            base,
            num_virtual_tokens=self.virtual,
            token_dim=width,
            num_transformer_submodules=1,
            num_attention_heads=heads,
            num_layers=layers,
            encoder_hidden_size=width,
            prefix_projection=False,
        )

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        return config["peft_type"] == "PREFIX_TUNING"

    @staticmethod
    def read(
        config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path
    ) -> tuple["Prefix", list[str]]:
        """Hang saved keys and values on the base. (PEFT writes them out where it made them by a projection.)"""
        import torch

        from tunesmith.adapters._peft import take_named

        adapter = Prefix(virtual=int(config["num_virtual_tokens"]))
        adapter._check(net)
        size = getattr(net.config, "head_dim", None) or net.config.hidden_size // net.config.num_attention_heads
        width = 2 * net.config.num_hidden_layers * _heads(net.config) * size
        names = adapter._put(net, torch.zeros(adapter.virtual, width, device=net.get_input_embeddings().weight.device))
        take_named(adapter.tensors(net), config, tensors, net, source)
        return adapter, names


def _heads(config: Any) -> int:
    """Heads of keys and values."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
