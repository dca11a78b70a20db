"""What may it do, now? Every request decided at request time, credentials for one task, revocation that is proved.

Below: `trust`, `inventory`, `providers`, `ledger`, `kernel`.
"""
