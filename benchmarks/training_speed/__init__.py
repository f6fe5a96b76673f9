"""How fast and how lean the training loop is, beside TRL with its best options: `python -m benchmarks.training_speed`."""
