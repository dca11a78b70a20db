"""What did it do, and what then? Telemetry, detections, incidents, responses.

Below: `access`, `trust`, `inventory`, `providers`, `kernel`.
"""
