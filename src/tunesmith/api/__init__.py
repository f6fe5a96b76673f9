"""Floor 8: one file per verb; what the command line and Python both call.

A verb is a file VERB.py with a function of its own name that returns a Result. There is no list to add it to:
`tunesmith VERB`, its help, its completion and `tunesmith.VERB(...)` come from the file.

    def eval(config: str | None = None, *, split: str = "test", fast: bool = False, **keys: Any) -> Result:
        \"""Score a run's answers on held-out rows.

        split   which rows
        fast    a hundred rows only

        Example: tunesmith eval runs/train-1 split=dev
        \"""

* The first line of the docstring is what `tunesmith --help` shows.
* Positional parameters take the words of the command line in order, `*more` the rest of them.
* Keyword-only parameters are flags (`--split dev`, `--fast`; `--no-x` where the default is True), or `split=dev`.
* `**keys` takes every other name=value; hand it to `config.resolve(config, **keys)`.
* Annotations are enforced on the command line: `steps: int` refuses `--steps many`.
* The file is light to import: what is heavy is imported inside the function.
* A verb prints nothing on stdout: it returns a Result, whose `.text` is printed, or as JSON its dict. Progress goes to
  stderr.
* A user's mistake is a UserError (exit code 2); everything else is our bug (traceback, exit code 1).

Functions that return something else (`load`, `build`) are Python only.
"""
