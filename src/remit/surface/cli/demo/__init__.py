"""The demo: five steps on a real PostgreSQL beside real processes, each a promise that its evidence keeps or breaks."""
