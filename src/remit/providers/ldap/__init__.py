"""How does one talk to an LDAP directory?

Names and filters without injection, hashes computed here, and connections that are protected or refused.
"""
