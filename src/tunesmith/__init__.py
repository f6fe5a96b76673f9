"""Tunesmith: from a prompt that fails to a model that can be trusted.

    import tunesmith
    run = tunesmith.train(data="faq.json")

Nothing heavy is imported here: a verb imports what it needs when it is called.
"""

__version__ = "0.1.0"
