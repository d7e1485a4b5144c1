"""Handlers that come with Shardcast: the app of an executor that was given none."""

from executor.app import Executor
from executor.handlers.http import call_http

app = Executor("default")
app.job("http")(call_http)
