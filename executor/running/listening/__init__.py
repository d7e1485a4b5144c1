"""Listeners: functions that get the messages of topics, with retries and dead letters."""
