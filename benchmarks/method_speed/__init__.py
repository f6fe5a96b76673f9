"""How many units a second do dpo, reward, grpo and gkd make beside TRL's trainers, and dpo beside LLaMA-Factory's, for the same work?

    benchmarks/training_speed/setup.sh                                            once: the peer's environment
    benchmarks/training_speed/setup.sh llamafactory                               the other's; without it TRL is the peer
    python -m benchmarks.method_speed                                             every case, three runs a side; goes on where it stopped
    python -m benchmarks.method_speed --cases dpo-lora --peer-python PYTHON
    python -m benchmarks.method_speed --parity                                    losses of equal batches, step by step
    python -m benchmarks.method_speed --table

A unit is a pair; for grpo and gkd a prompt with its eight answers, sampled, scored and learnt from (rollouts are timed apart
too). `dpo` is there at three sizes of model. The clock runs from the loaded model to the last step, so what a side does before
the first step - log p of the reference, a second model - counts. Pairs are made of the fixed rows of benchmarks/training_speed: a
prompt, and two ends of different length. Sides take turns, each run a fresh process with the same threads and allocator variables; before the first
timed run every option of the peers is tried, and the fastest is the peer.
"""
