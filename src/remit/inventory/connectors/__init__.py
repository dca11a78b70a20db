"""One file, or one folder, for each system that is read. See `port.py` for the four beats.

catalog           every connector by name: the one table to which a new one is added
testing           the contract that each keeps, on a real source
endpoint, sheets, exports    what several share: addresses and fit names; a sheet of facts; files that clouds wrote
"""
