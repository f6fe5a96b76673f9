"""Floor 2: what stands in a prompt besides the question."""
