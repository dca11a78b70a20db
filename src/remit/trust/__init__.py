"""Who is it, really? Attestation, SVIDs, the local authority."""
