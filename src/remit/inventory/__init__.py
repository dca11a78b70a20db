"""What exists? Every non-human identity of the connected systems, its credentials, and what they reach.

Below: `providers`, `ledger`, `kernel`.
"""
