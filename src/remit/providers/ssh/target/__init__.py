"""The program that Remit puts on SSH hosts: its parts, in the order in which they are written into one file.

They import the standard library and each other, and nothing else of Remit.
"""

PARTS = ("processes", "book", "connections", "session", "program")
