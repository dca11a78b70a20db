"""The words everyone speaks: errors, ids, clock, canonical bytes, events, units of work, the plug-in catalog.

Imports nothing of Remit; every other folder may import it.
"""
