"""Does any path escape policy? Each way by which a machine reaches a resource is decided, excepted or open.

model        guards, excuses, and what came of it for each resource
excuses      which exceptions count now
bindings     which identities are an enforcement point's own, said and signed by a person
examine      the proof by dominance over the access graph
native       what the resource's own logs show that nobody decided
certificate  what is signed when nothing is open, and how it is checked offline
"""
