"""Federation with other trust domains: whom we trust for their own ids, how far, and until when.

Spec: SPIFFE Federation; SPIFFE Trust Domain and Bundle §4 and §5.
"""
