"""Floor 2: passages for a query. numpy only."""

from tunesmith.retrieve.bm25 import Bm25, Hit, pick

__all__ = ["Bm25", "Hit", "pick"]
