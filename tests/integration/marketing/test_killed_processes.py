"""Processes of the marketing system that are killed in the middle, for real."""

from pathlib import Path

import pytest

from tests.support.promoting import a_scene, once_each, until

USERS = 200_000


@pytest.mark.proof
def test_each_user_gets_one_message_though_a_process_is_killed_amid_the_buckets(tmp_path: Path) -> None:
    with a_scene(tmp_path, USERS, start=None, runs=False) as scene:
        first, second = scene.start_process(), scene.start_process()
        promotion = scene.launch()
        until(lambda: scene.counts(promotion).published > USERS // 20)
        scene.server.faults.kill(first)
        killed_at = scene.counts(promotion).published
        assert killed_at < USERS
        until(lambda: scene.counts(promotion).covered == USERS, seconds=60)
        scene.wait()
        assert scene.counts(promotion).published == USERS
        assert scene.sent(promotion) == once_each(range(1, USERS + 1))
        assert second.process.poll() is None
