"""The engine: log, queues and producers over one data directory, changed by one thread. Blocks; knows no asyncio."""
