"""Floor 0: names, errors, the project file, the run folder, events. No torch, nothing slow."""
