"""One file for each system on which credentials are minted. See `port.py`."""
