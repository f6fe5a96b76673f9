"""Floor 6: a finished model in eight or four bits a weight, with what that changed, measured.

choose.py   which matrices are packed, and why the rest stays
sizes.py    bytes: of the packed matrices and of the whole file, apart
measure.py  perplexity, KL and logits, before and after, on the same tokens
tell.py     all of it as tables for people

The formats are on floor 3 (model/int8.py, nf4.py, packed_files.py), because loading needs them. What this floor's neighbours know
(the score of a task) is handed in by api.
"""
