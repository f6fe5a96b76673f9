"""The sorted Kneser-Ney against a literal one made of dictionaries, and the axioms of probability."""

from collections import Counter

import numpy as np
import pytest
from benchmarks.kneser_ney import fit

START = "<s>"


def literal(documents: list[list[int]], vocab_size: int, order: int, discounts: list[list[float]]):
    """p(token | context) straight from the definition, by recursion over dictionaries."""
    plain: list[Counter] = [Counter() for _ in range(order + 1)]
    for document in documents:
        line = [START, *document]
        for end in range(len(line)):
            for n in range(1, order + 1):
                if end - n + 1 >= 0:
                    plain[n][tuple(line[end - n + 1 : end + 1])] += 1
    counts: list[Counter] = [Counter() for _ in range(order + 1)]
    for n in range(1, order + 1):
        for gram, count in plain[n].items():
            if n == order or gram[0] == START:
                counts[n][gram] = count
            else:
                counts[n][gram] = len({longer[0] for longer in plain[n + 1] if longer[1:] == gram})
    counts[1].pop((START,), None)

    def prob(token: int, context: tuple) -> float:
        n = len(context) + 1
        lower = prob(token, context[1:]) if context else 1 / vocab_size
        followers = {gram: count for gram, count in counts[n].items() if gram[:-1] == context}
        total = sum(followers.values())
        if not total:
            return lower
        d = discounts[n - 1]
        mass = sum(d[min(count, 3)] for count in followers.values()) / total
        count = followers.get((*context, token), 0)
        return (count - d[min(count, 3)]) / total + mass * lower

    return prob


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    rng = np.random.default_rng(0)
    # A small Markov chain, so that contexts repeat and counts 1, 2, 3, 4 all occur. 0 ends a document.
    table = rng.dirichlet(np.full(7, 0.4), size=8)
    made = []
    for _ in range(40):
        line, token = [], 7
        for _ in range(int(rng.integers(1, 12))):
            token = int(rng.choice(7, p=table[token])) + 1
            line.append(token)
        made.append([*line, 0])
    return made


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_literal_model(documents: list[list[int]], order: int) -> None:
    vocab_size = 11
    model = fit(documents[:30], vocab_size=vocab_size, order=order)
    prob = literal(documents[:30], vocab_size, order, [list(level.discounts) for level in model.orders])
    unseen = [[9, 10, 1, 2, 0], [0], [10], [3, 3, 3, 3, 3, 3, 3, 0, 4]]
    for document in [*documents[25:], *unseen]:
        line = [START, *document]
        wanted = [prob(token, tuple(line[max(0, i + 1 - order + 1) : i + 1])) for i, token in enumerate(document)]
        np.testing.assert_allclose(model.probs(document), wanted, rtol=1e-10)


def test_probabilities_sum_to_one(documents: list[list[int]]) -> None:
    vocab_size = 11
    model = fit(documents, vocab_size=vocab_size)
    rng = np.random.default_rng(1)
    for _ in range(60):
        context = rng.integers(0, vocab_size, size=int(rng.integers(0, 7))).tolist()
        if rng.random() < 0.5 and documents:  # half of them contexts that were seen
            context = documents[int(rng.integers(len(documents)))][: len(context)]
        total = sum(model.probs([*context, token])[-1] for token in range(vocab_size))
        assert total == pytest.approx(1.0, abs=1e-12)


def test_discounts_are_those_of_chen_and_goodman(documents: list[list[int]]) -> None:
    model = fit(documents, vocab_size=11, order=3)
    counts = Counter(model.orders[2].counts.tolist())
    n1, n2, n3, n4 = (counts[i] for i in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    wanted = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    np.testing.assert_allclose(model.orders[2].discounts, wanted)


def test_documents_do_not_see_each_other() -> None:
    apart = fit([[1, 2], [3, 4]], vocab_size=5, order=2)
    # 3 follows 2 only across the boundary: given 2 it is no likelier than given a token never seen before anything.
    assert apart.probs([2, 3])[1] == pytest.approx(apart.probs([4, 3])[1])


def test_order_of_documents_does_not_matter(documents: list[list[int]]) -> None:
    forward, backward = fit(documents, vocab_size=11), fit(documents[::-1], vocab_size=11)
    for document in documents[:5]:
        np.testing.assert_array_equal(forward.bits(document), backward.bits(document))


def test_an_id_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(ValueError, match="ids must lie in"):
        fit([[0, 9]], vocab_size=5)
    with pytest.raises(ValueError, match="ids must lie in"):
        fit([[0, 1]], vocab_size=5).probs([7])
