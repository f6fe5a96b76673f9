"""Does every method do, on a real task at the scale of `mini`, what it is said to do? The directions were written down first.

    TUNESMITH_DATA=... python -m benchmarks.methods                             every part, three seeds; what is there is kept
    TUNESMITH_DATA=... python -m benchmarks.methods --parts preferences --seeds 1
    TUNESMITH_DATA=... python -m benchmarks.methods --minutes 60                no cell starts after an hour (else: 175 minutes)
    python -m benchmarks.methods --table                                        the table of what is there

directions.yaml holds the claims, each with the figure it is about. A part is a file of cells; a cell trains through the public
API and returns its figures. Each cell runs in a process of its own, once for each seed, and its figures go to
results/methods.json at once; a run that was cut off goes on from its checkpoint, one of other settings, rows or base is made anew.
A cell that takes longer than 15 minutes is killed and counts as failed. Every method and adapter has a cell but those that
__main__.py names, with the reason.
"""
