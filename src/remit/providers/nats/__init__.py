"""How is a NATS server in operator mode reached: keys and JWTs, its system account, and a login as a user?

nats-py is imported when the first connection is opened, never at import. Below: `kernel`.
"""
