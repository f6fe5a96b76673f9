"""Prompt tuning: a few trained vectors before every text, nothing else changes (Lester et al. 2021, arXiv 2104.08691).

The smallest adapter there is: n x width numbers, and one base answers any mix of tasks in one batch. It needs a large model
to come near LoRA, and a good start: with PEFT's defaults its own benchmark shows .057, with good ones .343. So the
vectors start as words of the vocabulary, or of a `text` that says the task. They cost n tokens of context. PEFT's format.

Use it for a large base that many tasks share.

Formula: text' = [p_1 ... p_n, embedding of the text], with p learned.

prompt: 모든 글 앞에 학습한 벡터 몇 개를 두고 나머지는 그대로 둡니다. 가장 작은 어댑터라서 기본 모델 하나로 여러 과제를 한 배치에서 답할 수
있습니다. 모델이 커야 LoRA에 가까워지고 시작이 좋아야 하므로, 어휘의 단어나 과제를 설명하는 `text`의 단어에서 시작합니다. 문맥 n 토큰을 씁니다.
PEFT 형식으로 저장합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tunesmith.core.limits import at_least

COMMON = 5000  # words are drawn from the first rows: tokenizers number the most common ones first


@dataclass(frozen=True)
class Prompt:
    """A soft prompt."""

    virtual: int = 20
    """How many vectors stand before every text.

    모든 글 앞에 둘 벡터의 수."""

    text: str = ""
    """Words they start as, repeated or cut to `virtual` tokens. Empty = words drawn from the vocabulary.

    시작할 때의 단어들. virtual개에 맞게 되풀이하거나 자릅니다. 비우면 어휘에서 뽑습니다."""

    lr: ClassVar[float] = 1e-3  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 1.4  # 1e-3 is PEFT's good one at 3B parameters, 5e-2 is good on `mini`
    file: ClassVar[str] = "adapter"
    start: ClassVar[str] = "elsewhere"  # words stand before the text that were not there
    merges: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("adapter.virtual", self.virtual, 1)

    def attach(self, net: Any, *, seed: int = 0, tokenizer: Any = None) -> list[str]:
        """Freeze the network and put the vectors beside its embedding. Returns the embedding's name."""
        import torch

        from tunesmith.core.errors import SettingError

        table = net.get_input_embeddings().weight.detach()
        if self.text:
            ids = tokenizer.encode(self.text) if tokenizer is not None else []
            if not ids:
                raise SettingError(
                    f"adapter.text {self.text!r} gives no tokens to start from",
                    fix="Leave it out, or attach with the tokenizer.",
                )
            rows = table[[ids[number % len(ids)] for number in range(self.virtual)]]
        else:
            draw = torch.Generator().manual_seed(seed)
            rows = table[torch.randint(min(COMMON, len(table)), (self.virtual,), generator=draw).to(table.device)]
            empty = rows.abs().amax(1, keepdim=True) == 0  # of padding, or of a token that nobody trained
            rows = torch.where(empty, table.mean(0), rows)
        return self._put(net, rows)

    def _put(self, net: Any, rows: Any) -> list[str]:
        from tunesmith.adapters._prompt import PromptEmbedding
        from tunesmith.core.errors import SettingError
        from tunesmith.model.kinds import family

        if family(net.config) != "decoder":
            raise SettingError(
                f"a soft prompt stands before a text that is read from left to right; {type(net).__name__} is an {family(net.config)}",
                fix="Use adapter: lora.",
            )
        words = net.get_input_embeddings()
        scale = getattr(words, "embed_scale", None)  # Gemma multiplies what it reads from the table
        rows = rows if scale is None else rows * torch_scale(scale, rows)
        name = next(n for n, module in net.named_modules() if module is words)
        net.requires_grad_(False)
        net.set_submodule(name, PromptEmbedding(words, rows.clone()).train(words.training))
        return [name]

    def merge(self, net: Any) -> None:
        """Refused: vectors before a text are no weights of the network."""
        from tunesmith.core.errors import ModelError

        raise ModelError(
            "a soft prompt cannot be merged: its vectors stand before the text and are no weights of the network",
            fix="Keep the adapter's folder; tunesmith and PEFT read it as it is.",
        )

    def tensors(self, net: Any) -> dict[str, Any]:
        """The vectors under PEFT's name."""
        return {"prompt_embeddings": net.get_input_embeddings().prompt.detach()}

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        from tunesmith.adapters._peft import peft_config

        config = net.config
        return peft_config(
            "PROMPT_TUNING",
            base,
            num_virtual_tokens=self.virtual,
            token_dim=net.get_input_embeddings().prompt.shape[1],
            num_transformer_submodules=1,
            num_attention_heads=config.num_attention_heads,
            num_layers=config.num_hidden_layers,
            prompt_tuning_init="RANDOM",  # PEFT's word for: the file has them
        )

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        return config["peft_type"] == "PROMPT_TUNING"

    @staticmethod
    def read(
        config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path
    ) -> tuple["Prompt", list[str]]:
        """Put saved vectors beside the base's embedding."""
        import torch

        from tunesmith.adapters._peft import take_named

        adapter = Prompt(virtual=int(config["num_virtual_tokens"]))
        width = net.get_input_embeddings().weight.shape[1]
        names = adapter._put(net, torch.zeros(adapter.virtual, width, device=net.get_input_embeddings().weight.device))
        take_named(adapter.tensors(net), config, tensors, net, source)
        return adapter, names


def torch_scale(scale: Any, like: Any) -> Any:
    """An embedding's scale as a tensor that fits `like`."""
    import torch

    return torch.as_tensor(scale, device=like.device).to(like.dtype)
