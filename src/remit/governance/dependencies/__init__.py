"""Who would notice? Consumers by evidence, what a revocation would break, and the scream test that finds out.

`model` says what is known of a consumer, `breaks` what it means for a revocation now, `scream` is the life of one
test, `share` its canary. What a log, a session or a configuration shows comes from `inventory` below; `wiring` gathers.
"""
