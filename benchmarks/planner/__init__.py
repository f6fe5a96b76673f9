"""How far plans are off what was measured: see README.md."""
