"""One file for each system that is read. See `port.py` for the four beats."""
