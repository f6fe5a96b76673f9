"""Floor 0: intervals, paired tests, many tests at once, verdicts in words. numpy only; scipy is loaded where it is used."""
