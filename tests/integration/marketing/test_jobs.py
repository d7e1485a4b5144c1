"""The jobs of jobs.yaml on a real admin."""

from pathlib import Path

from examples.marketing.jobs import declare, jobs
from examples.marketing.promotions.states import State
from examples.marketing.store.progress import Counts
from shardcast.testing import TestServer
from tests.support.promoting import a_scene, until


def test_missing_jobs_are_added_and_what_somebody_changed_stays() -> None:
    with TestServer() as server:
        names = [job["name"] for job in jobs()]
        assert declare(server.api) == names
        (hot_goods,) = (job for job in jobs() if job["name"] == "hot-goods")
        server.apply({**hot_goods, "shards": 3})
        server.api.delete("/jobs/marketing-resend")
        assert declare(server.api) == ["marketing-resend"]
        assert server.api.get("/jobs/hot-goods")["shards"] == 3
        assert {job["name"] for job in server.api.get_all("/jobs", "jobs")["jobs"]} == set(names)


def test_the_steward_comes_by_itself_every_second(tmp_path: Path) -> None:
    with a_scene(tmp_path, 100, start=None, by_hand=False) as scene:
        promotion = scene.launch()
        scene.wait()
        scene.handle(promotion, Counts(delivered=100))
        until(lambda: scene.now(promotion).state is State.COMPLETED)
