"""tokens: only chosen rows move, tied or not; PEFT's TRAINABLE_TOKENS both ways; added tokens join them."""

import peft
import pytest
import torch

from tunesmith.adapters._rows import train_rows
from tunesmith.adapters.store import attach, merge
from tunesmith.adapters.tokens import Tokens
from tunesmith.core.errors import SettingError
from tunesmith.model.tokens import add_tokens
from tunesmith.testing import check_adapter

IDS = torch.tensor([[4, 7, 4, 30, 7, 31]])


@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2"])
def test_peft_reads_our_file_and_gives_our_logits(kind, ours_in_peft, logits, near):
    model, opened, _ = ours_in_peft(Tokens(ids=(4, 7)), kind, ids=IDS)
    wanted = logits(model.net, IDS)
    assert near(logits(merge(opened).net, IDS), wanted)


@pytest.mark.parametrize("kind, targets", [("llama", None), ("llama", ["embed_tokens", "lm_head"]), ("tied", None)])
def test_what_peft_trained_is_read(kind, targets, peft_in_ours):
    peft_in_ours(
        peft.TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[4, 7], target_modules=targets), kind, ids=IDS
    )


@pytest.mark.parametrize("kind", ["llama", "tied"])
def test_all_other_rows_and_layers_keep_their_bytes(kind, new_model, shake):
    model, base, adapter = new_model(kind), new_model(kind), Tokens(ids=(9, 4))
    attach(adapter, model)
    shake(model.net)
    adapter.merge(model.net)
    for name, parameter in base.net.named_parameters():
        moved = (
            (parameter != model.net.get_parameter(name)).any(-1).nonzero().flatten().tolist()
            if parameter.ndim == 2
            else []
        )
        assert moved == ([4, 9] if name in ("model.embed_tokens.weight", "lm_head.weight") else []), name


def test_rows_of_added_tokens_join_those_that_train_already(new_model):
    model = new_model("tied")
    ids = add_tokens(model, ["<tool_x>"])
    attach(Tokens(ids=(4,)), model)
    train_rows(model.net, ids)
    assert model.net.get_input_embeddings().ids.tolist() == [4, *ids]
    assert [n for n, p in model.net.named_parameters() if p.requires_grad] == ["model.embed_tokens.new_rows"]


def test_an_id_beyond_the_table_is_told(new_model):
    with pytest.raises(SettingError, match="holds 288"):
        Tokens(ids=(288,)).attach(new_model("llama").net)


def test_keeps_what_the_shelf_promises():
    check_adapter(Tokens(ids=(41, 45, 60)))
