"""What does the network let through, and how is it told? Attempts to connect, nftables, and pg_hba.conf.

Everything here touches this machine's network or a server's admission. Below: `kernel`, `providers.postgres`.
"""

from remit.providers.network.attempt import Attempted, attempt
from remit.providers.network.hba import HbaFile
from remit.providers.network.nft import Nft

__all__ = ["Attempted", "HbaFile", "Nft", "attempt"]
