"""Blast radius governed: how much of it is reached before containment, how it moves, and what each tier may have.

timing   seconds by hop, and how long containment takes here
budget   how much each tier may reach, and the finding where one reaches more
trend    one sample a day of whoever counts, and of the estate
"""
