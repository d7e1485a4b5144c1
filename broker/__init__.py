"""The broker: topics split into queues over one commit log, and the client that speaks to it."""
