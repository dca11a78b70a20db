"""The local authority: P-256 keys that sign X.509-SVIDs and JWT-SVIDs, their life, and their bundle."""
