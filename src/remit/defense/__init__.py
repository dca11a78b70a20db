"""What did it do, and what then? Telemetry, detections, responses."""
