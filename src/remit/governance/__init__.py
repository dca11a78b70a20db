"""Who answers for it? Ownership, life cycle, exceptions, people."""
