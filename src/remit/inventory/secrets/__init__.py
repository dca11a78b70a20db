"""Secrets that lie about: found fast, tied to the identity that they prove, and never kept.

`sources` yields blobs (files, members of archives, blobs of git history), `engine` finds the values in them, `binding`
says whose they are, and `facts` writes it down. A value lives in memory only; what is kept is a keyed fingerprint.
"""
