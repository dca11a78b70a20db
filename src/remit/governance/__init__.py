"""Who answers for it? People and their signatures, ownership, life cycle, tiers, exceptions.

Below: `defense`, `access`, `trust`, `inventory`, `kernel`.
"""
