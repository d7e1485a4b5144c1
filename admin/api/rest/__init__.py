"""The REST interface under /api/v1, and the probes."""
