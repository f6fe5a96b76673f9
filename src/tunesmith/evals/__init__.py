"""Floor 6: scores of a model over rows: generated answers, likelihood of given answers, perplexity, a panel of other tasks, comparisons.

No torch at import: run.py, likelihood.py, perplexity.py and panel.py load it when they are called.
"""
