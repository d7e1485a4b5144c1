"""Why a run waits, as the fleet explains it."""

import pytest

from admin.domain.overlap import Active
from admin.operations.fleet import Alive
from tests.support.admin_factories import run


@pytest.mark.parametrize(
    ("overlap", "reason"),
    [
        ("queue", "an earlier run of the job has not ended (overlap: queue)"),
        ("replace", "it starts when the run that it replaces has stopped (overlap: replace)"),
        ("allow", "no executor of the group promotion is alive"),
    ],
)
def test_a_run_that_waits_says_what_for(overlap, reason):
    assert Alive([]).explained(run(active=Active(1), overlap=overlap)).reason == reason
