"""The languages in which rights are written: AWS policies, Kubernetes roles, SQL, Redis ACLs, Cedar."""
