"""What monitors ask over HTTP: metrics in the format of Prometheus, alive, ready."""
