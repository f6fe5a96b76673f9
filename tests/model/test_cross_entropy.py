"""log softmax and its gradient by the kernel, against torch in fp64."""

import pytest
import torch

from tunesmith.model.compiled import why_not
from tunesmith.model.cross_entropy import cross_entropy, fits

pytestmark = pytest.mark.skipif(bool(why_not("cross_entropy")), reason=f"no kernel here: {why_not('cross_entropy')}")
VOCABS = (5, 16, 90, 1024, 8192, 32003)


def by_the_book(logits, target, scale):
    logp = torch.log_softmax(logits.double() * scale, -1)
    chosen = logp.gather(1, target[:, None])[:, 0]
    return chosen, logp.exp() - torch.nn.functional.one_hot(target, logits.shape[1])


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
@pytest.mark.parametrize(("dtype", "room"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)])
def test_it_is_log_softmax_and_its_gradient(vocab, scale, dtype, room, lanes):
    made = torch.Generator().manual_seed(vocab)
    logits = (torch.randn(37, vocab, generator=made) * 4).to(dtype)
    target = torch.randint(vocab, (37,), generator=made)
    target[0], target[1] = 0, vocab - 1
    wanted, gradient = by_the_book(logits, target, scale)
    read = logits.clone()
    logp = cross_entropy(read, target, scale, False)
    assert torch.equal(read, logits)
    assert logp.dtype == torch.float32 and (logp - wanted).abs().max() <= 3e-6 * max(1, wanted.abs().max())
    assert torch.equal(cross_entropy(read, target, scale, True), logp)
    assert (read - gradient).abs().max() <= room


def test_likely_far_and_broken_logits(lanes):
    logits = torch.zeros(4, 40)
    logits[0, 3] = 1e4
    logits[1, 3] = -1e4
    logits[2, 7] = float("nan")
    logp = cross_entropy(logits, torch.tensor([3, 3, 0, 0]), 1.0, True)
    assert logp[0] == 0 and logp[1] == pytest.approx(-1e4, rel=1e-3) and logp[2].isnan()
    assert logp[3] == pytest.approx(-torch.tensor(40.0).log().item(), abs=1e-6)
    assert logits[0].abs().max() < 1e-37 and logits[2].isnan().all() and logits[[0, 1, 3]].isfinite().all()


def test_a_target_outside_the_vocabulary_is_refused_before_anything_is_written():
    for target in (-1, 8):
        logits = torch.ones(2, 8)
        with pytest.raises(IndexError, match="not below the 8"):
            cross_entropy(logits, torch.tensor([0, target]), 1.0, True)
        assert torch.equal(logits, torch.ones(2, 8))


def test_the_number_of_threads_changes_not_a_bit():
    given, target, made = torch.randn(50, 1000), torch.arange(50), []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            logits = given.clone()
            made.append((cross_entropy(logits, target, 1.0, True), logits))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in made[1:] for a, b in zip(made[0], other))


def test_what_it_cannot_read_is_left_to_torch():
    assert fits(torch.zeros(2, 5)) and fits(torch.zeros(2, 5, dtype=torch.bfloat16))
    assert not fits(torch.zeros(2, 5, dtype=torch.float64)) and not fits(torch.zeros(5, 2).T)
