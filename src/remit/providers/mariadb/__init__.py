"""How is a MariaDB server reached, and what does it say of accounts, sessions and code? A thin client over PyMySQL.

PyMySQL is imported when the first connection is opened, never at import. Below: `kernel`.
"""
