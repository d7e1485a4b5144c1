"""Bytes and files: the commit log of atomic frames. Knows no asyncio, no topics by name and no gRPC."""
