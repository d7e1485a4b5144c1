"""How an application tests itself on a real server; `shardcast_server` comes from Shardcast's pytest plugin."""

from datetime import datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from examples.fastapi_app.app import app, sold
from shardcast.testing import TestServer


def test_an_order_is_confirmed_and_reported(shardcast_server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sold.clear()
    for name, value in shardcast_server.environment.items():
        monkeypatch.setenv(name, value)
    with TestClient(app) as client:
        for number, item in enumerate(["tea", "tea", "cup"]):
            assert client.post("/orders", json={"number": number, "item": item}).status_code == 202
        shardcast_server.wait_read("shop-confirmations")
        run_id = client.post("/reports").json()["run_id"]
        assert shardcast_server.lines(shardcast_server.wait(run_id)) == ["3 items were sold"]
        assert client.get(f"/reports/{run_id}").json() == {"state": "succeeded", "sold": {"tea": 2, "cup": 1}}

        (nightly,) = shardcast_server.advance(timedelta(days=1))
        assert nightly.fire_time == datetime.fromisoformat(f"{nightly.fire_time:%Y-%m-%d}T22:00:00+00:00")
        assert nightly.results == [{"tea": 2, "cup": 1}]
