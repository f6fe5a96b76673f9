"""A tiny real model and a few chats for the tests of evaluation."""

import pytest

from tunesmith.model.load import load
from tunesmith.text.encode import Text


@pytest.fixture(scope="session")
def pico():
    return load("pico", seed=0)


@pytest.fixture(scope="session")
def text(pico):
    return Text(pico.tokenizer)


def chat(question, answer, number=0, **columns):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "id": f"{number:04}", "origin": f"faq.jsonl:{number + 1}", "columns": columns}


@pytest.fixture
def rows():
    return [
        chat(f"Where is {name}?", name.upper(), i, city=name[0])
        for i, name in enumerate(["a", "bb", "seoul", "부산", "busan", "b"])
    ]
