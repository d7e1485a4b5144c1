"""What the admin decides: frozen data and plain functions, without clock, disk or network."""
