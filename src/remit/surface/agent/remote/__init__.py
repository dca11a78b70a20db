"""The agent far from the control plane: attests its node, keeps in step with the server, serves the Workload API."""
