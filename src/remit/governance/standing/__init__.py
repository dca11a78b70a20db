"""What right stands without a task's grant, how long it has stood, and how it becomes a grant.

Below: `access` (targets, leases, rotators), `inventory` (what exists).
"""
