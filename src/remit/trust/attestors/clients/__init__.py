"""What a machine sends to prove itself, for each attestor that asks; made by `provers.prover`."""
