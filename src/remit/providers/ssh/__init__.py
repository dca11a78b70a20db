"""SSH hosts: the connection of an administrator, logins by certificate, and the program that runs on the hosts."""
