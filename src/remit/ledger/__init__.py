"""How do we prove it? Entries, Merkle tiles, checkpoints, proofs; nothing here knows what an identity is."""
