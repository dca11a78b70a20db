"""Granted against used: what an identity may do and never does, and the smallest right that still serves.

model       rights, drafts, replays and what they are shown as
rhythm      how often it acts, and whether the logs reach back far enough to say what it never does
languages   one system each: what is granted, the proposal in its own words, and the evaluator that judges it
replay      every observed act through the proposal
radius      what is reached now, and what would be afterwards
stages      the life of a change: shadow, canary, enforced, taken back
"""
