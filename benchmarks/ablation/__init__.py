"""What each switch for memory and speed brings: one after another on one model and row set. See __main__.py."""
