"""Floor 6, planning: what a run needs before it is made. The real step on fake tensors, and a device's ways on top."""
