"""How is a Redis or Valkey server reached, and what does it say of users and connections? A thin client over redis-py.

redis-py is imported when the first connection is opened, never at import. Below: `kernel`.
"""
