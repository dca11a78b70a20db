"""The agent: what runs beside workloads, identifies them by the kernel and hands them their identities."""
