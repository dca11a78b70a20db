"""Measurements: ours and a peer's (or a physical limit's) side by side, in one run on one machine."""
