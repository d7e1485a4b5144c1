"""The broker's edges: message in, one call, message out."""
