from tunesmith.core.shelf import shelf
from tunesmith.data.steps import Drop
from tunesmith.data.steps.dedup import Dedup
from tunesmith.testing import check_step


def chat(prompt, answer, number):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "origin": f"a:{number}"}


ROWS = [chat("q", "a", 1), chat("Q ", "a", 2), chat("q", "b", 3), chat("p", "a", 4)]


def kept(step):
    results = list(step.apply(iter(ROWS)))
    assert len(results) == len(ROWS)
    return [row["origin"] for row in results if not isinstance(row, Drop)], {
        r.reason for r in results if isinstance(r, Drop)
    }


def test_the_first_of_equal_rows_stays():
    assert kept(Dedup()) == (["a:1", "a:3", "a:4"], {"duplicate"})
    assert kept(Dedup(part="prompt")) == (["a:1", "a:4"], {"duplicate prompt"})
    assert kept(Dedup(part="answer")) == (["a:1", "a:3"], {"duplicate answer"})


def test_it_keeps_the_promises_of_the_shelf():
    check_step(Dedup())
    assert shelf("steps").make({"dedup": {"part": "prompt"}}) == Dedup(part="prompt")
