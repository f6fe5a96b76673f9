"""Floor 7: strings stages together. So far the first rungs: the same model asked plainly, with examples, with picked examples."""
