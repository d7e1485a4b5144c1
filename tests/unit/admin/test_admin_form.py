"""The plain form of a job: read with all faults told, written so that it reads back."""

from datetime import timedelta

import pytest

from admin.domain.errors import InvalidJob, InvalidTrigger
from admin.domain.form import definition_of, form_of
from admin.domain.job import Misfire, Overlap
from admin.domain.retry import Backoff, RetryPolicy, pause_before_retry
from admin.domain.trigger import MANUAL
from admin.domain.trigger.fields import duration_of, duration_text

NEEDED = {"name": "promotion-push", "group": "promotion", "handler": "promotion.push"}


def test_what_is_left_out_has_its_default():
    definition = definition_of(NEEDED)
    assert definition.trigger == MANUAL
    assert (definition.shards, definition.params, definition.retry.attempts) == (1, "{}", 1)
    assert (definition.timeout, definition.overlap, definition.misfire) == (None, Overlap.SKIP, Misfire.FIRE_ONCE)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"shards": 8, "params": {"promotion_id": 42, "text": "优惠"}, "timeout": "30m", "overlap": "allow"},
        {"shards": "executors", "retry": {"attempts": 3, "backoff": "linear", "initial": "250ms", "max": "1h30m"}},
        {"trigger": {"cron": "0 0 9 * * ?", "time_zone": "Asia/Shanghai"}, "misfire": "fire_all"},
        {"trigger": {"unix": "*/5 * * * *"}, "misfire": "skip"},
        {"trigger": {"every": "30s"}},
        {"trigger": {"at": "2026-12-01T09:00:00+08:00"}},
        {"trigger": {"manual": True}},
    ],
)
def test_a_definition_reads_back_as_it_was_written(fields):
    definition = definition_of({**NEEDED, **fields})
    assert definition_of(form_of(definition)) == definition


def test_all_faults_are_told_at_once():
    form = {"name": "a b", "handler": "", "shards": 0, "retry": {"attempts": 0}, "timeout": "soon", "colour": "red"}
    with pytest.raises(InvalidJob) as caught:
        definition_of(form)
    told = " ".join(caught.value.fields["faults"])
    assert len(caught.value.fields["faults"]) == 7
    assert all(word in told for word in ("colour", "name", "group", "handler", "shards", "retry", "timeout"))


@pytest.mark.parametrize(
    "fields",
    [
        {"shards": 1025},
        {"shards": True},
        {"shards": "many"},
        {"params": [1]},
        {"params": {"x": float("nan")}},
        {"params": {"x": "y" * 70_000}},
        {"trigger": {}},
        {"trigger": {"every": "30s", "manual": True}},
        {"trigger": {"every": "500ms"}},
        {"trigger": {"every": "1500ms"}},
        {"trigger": {"every": "30s", "time_zone": "UTC"}},
        {"trigger": {"at": "2026-12-01T09:00:00"}},
        {"trigger": {"at": "tomorrow"}},
        {"trigger": {"manual": False}},
        {"trigger": {"moon": "full"}},
        {"trigger": "cron"},
        {"overlap": "never"},
        {"misfire": 3},
        {"retry": {"attempts": 1001}},
        {"retry": {"tries": 3}},
        {"timeout": "0s"},
        {"timeout": "50d"},
        {"handler": "x" * 101},
        {"name": "x" * 101},
    ],
)
def test_what_is_out_of_bounds_is_refused(fields):
    with pytest.raises(InvalidJob):
        definition_of({**NEEDED, **fields})


def test_a_wrong_cron_expression_keeps_its_position():
    with pytest.raises(InvalidTrigger) as caught:
        definition_of({**NEEDED, "trigger": {"cron": "0 0 9 L/2 * ?"}})
    assert caught.value.fields["position"] == 6


@pytest.mark.parametrize(
    "fields",
    [
        {"overlap": "skip", "overlap_limit": 3},
        {"overlap": "replace", "overlap_limit": 3},
        {"overlap": "queue", "overlap_limit": 0},
        {"overlap": "allow", "overlap_limit": True},
        {"retry": {"jitter": 1.5}},
        {"retry": {"jitter": "much"}},
        {"retry": {"losses": 0}},
    ],
)
def test_limits_that_make_no_sense_are_refused(fields):
    with pytest.raises(InvalidJob, match=r"overlap_limit|retry"):
        definition_of({**NEEDED, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"overlap": "queue"},
        {"overlap": "queue", "overlap_limit": 3},
        {"overlap": "allow", "overlap_limit": 2},
        {"overlap": "replace"},
        {"retry": {"attempts": 3, "jitter": 0.5, "losses": 7}},
    ],
)
def test_policies_are_read_and_written(fields):
    definition = definition_of({**NEEDED, **fields})
    assert definition_of(form_of(definition)) == definition
    assert form_of(definition)["overlap_limit"] == fields.get("overlap_limit")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86_400), ("0s", 0)]
)
def test_durations_are_read_and_written(text, seconds):
    assert duration_of(text) == timedelta(seconds=seconds)
    assert duration_text(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("text", ["", "30", "s", "1.5h", "-5s", "5s1h", "366d", "9" * 30 + "d", 30])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"duration|text|longer"):
        duration_of(text)


@pytest.mark.parametrize(
    ("backoff", "pauses"),
    [("fixed", [5, 5, 5, 5]), ("linear", [5, 10, 15, 20]), ("exponential", [5, 10, 20, 30])],
)
def test_pauses_grow_as_the_policy_says_up_to_the_cap(backoff, pauses):
    policy = RetryPolicy(9, Backoff(backoff), timedelta(seconds=5), timedelta(seconds=30))
    assert [pause_before_retry(policy, n, 0.5).total_seconds() for n in (1, 2, 3, 4)] == pauses
    assert pause_before_retry(policy, 1000, 0.0) <= timedelta(seconds=30)


def test_jitter_makes_a_pause_shorter_by_its_share_at_most():
    policy = RetryPolicy(9, Backoff.FIXED, timedelta(seconds=10), timedelta(seconds=30), jitter=0.5)
    pauses = [pause_before_retry(policy, 1, chance).total_seconds() for chance in (0.0, 0.5, 0.999)]
    assert pauses == pytest.approx([10, 7.5, 5.005])


def test_a_pause_has_whole_milliseconds_as_stores_keep_them():
    policy = RetryPolicy(9, Backoff.FIXED, timedelta(seconds=1), jitter=1.0)
    assert pause_before_retry(policy, 1, 0.1234567) == timedelta(milliseconds=876)
