"""Time that stands still while the process does."""

from broker.groups.awake import AwakeTime


def test_time_goes_on_while_somebody_looks_and_a_pause_hardly_counts() -> None:
    now = [100.0]
    awake = AwakeTime(lambda: now[0])
    assert awake() == 0.0
    for _ in range(8):
        now[0] += 0.25
        awake()
    assert awake() == 2.0
    now[0] += 3_600.0
    assert awake() == 2.5
    assert awake() == 2.5
