"""The room of leases and dead letters."""
