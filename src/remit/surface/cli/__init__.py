"""The command line:
one file of commands for each capability, assembled in `entry.py`; each is imported when it is used.
"""
