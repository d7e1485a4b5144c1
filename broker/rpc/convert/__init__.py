"""Protos of the bulk API into our values, and back; a file for each part of the service."""
