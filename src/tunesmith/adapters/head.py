"""Head: only the output head trains, the body stays as it is.

The cheapest tuning there is: no gradient enters the body. Use it for a new task head (classification, reward), to see how
much the base's features already say, or to move which words a model prefers. A head tied to the embeddings becomes a
tensor of its own; the embeddings keep their bytes. PEFT reads the file: it is its modules_to_save and nothing else.

Source: feature-based transfer with a new output layer (Donahue et al. 2013, arXiv 1310.1531).

Formula: logits = W' h, with h the body's state as it was and W' learned.

head: 출력층만 학습하고 몸체는 그대로 둡니다. 몸체로는 기울기가 들어가지 않아 가장 쌉니다. 새 과제의 출력층(분류, 보상)이나, 기본
모델의 특징만으로 얼마나 되는지 볼 때 씁니다. 임베딩과 묶인 출력층은 따로 떼어 내며, 임베딩은 한 바이트도 바뀌지 않습니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Head:
    """The output head, or what is new on the network."""

    lr: ClassVar[float] = 1e-3  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 0.9  # 1.2e-2 is good on `mini`
    file: ClassVar[str] = "adapter"

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze all but the head: what is new on the network, or else the language head. Returns its name."""
        from tunesmith.adapters._whole import untie

        names = heads(net)
        net.requires_grad_(False)
        untie(net, names)
        for name in names:
            net.get_submodule(name).requires_grad_(True)
        return names

    def merge(self, net: Any) -> None:
        """Nothing to add: the head's weights are the result."""

    def tensors(self, net: Any) -> dict[str, Any]:
        """The head's weights under PEFT's names."""
        from tunesmith.adapters._whole import whole_tensors

        return whole_tensors(net, heads(net))

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """PEFT's modules_to_save beside a LoRA that goes into no layer."""
        from tunesmith.adapters._peft import peft_config
        from tunesmith.adapters._whole import NOTHING

        return peft_config("LORA", base, r=8, lora_alpha=8, target_modules=NOTHING, modules_to_save=names, bias="none")

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind: modules saved whole, of which `top` reads those inside the body."""
        from tunesmith.adapters._whole import NOTHING

        saved = config.get("modules_to_save") or ()
        return (
            config["peft_type"] == "LORA"
            and config.get("target_modules") == NOTHING
            and not any("." in n for n in saved)
        )

    @staticmethod
    def read(config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path) -> tuple["Head", list[str]]:
        """The saved head stands in its place already (store.py puts all modules_to_save there)."""
        net.requires_grad_(False)
        return Head(), list(config["modules_to_save"])


def heads(net: Any) -> list[str]:
    """Names of what is new on the network, as PEFT names them; without any, the output head's."""
    from tunesmith.adapters._whole import new_heads
    from tunesmith.core.errors import SettingError

    if found := new_heads(net, getattr(net, "new_heads", ())):
        return found
    head = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
    named = {id(module): name for name, module in net.named_modules()}
    if head is not None:
        return [named[id(head)]]
    body = getattr(net, "base_model", net)
    children = () if body is net else net.named_children()  # a body alone: all of it would be outside of it
    outside = [name for name, module in children if module is not body and any(True for _ in module.parameters())]
    if not outside:
        raise SettingError(
            f"{type(net).__name__} has no head that could train",
            wanted="A network with an output layer on its body.",
            fix="adapter: top trains the last layers of the body, adapter: lora all of them a little.",
        )
    return outside
