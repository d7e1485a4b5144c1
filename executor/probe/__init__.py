"""What monitors ask an executor over HTTP: alive, ready, metrics in the format of Prometheus."""
