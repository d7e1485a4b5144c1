"""The plain form of triggers: read, refused and written, and the same as a message."""

import pytest

from admin.api.rpc.convert import job_message, trigger_form
from admin.domain.trigger import form_of_trigger, trigger_of
from tests.support.admin_factories import job

FORMS = [
    {"manual": True},
    {"cron": "0 0 9 LW * ?", "time_zone": "Asia/Shanghai"},
    {"cron": "0 0 9 ? * FRIL", "time_zone": "UTC", "skipped": "shift", "repeated": "twice", "jitter": "1m30s"},
    {"unix": "*/5 * * * *", "time_zone": "UTC", "end": "2027-01-01T00:00:00+00:00"},
    {"every": "30s", "start": "2026-12-01T09:00:00.250000+00:00"},
    {"at": "2026-12-01T01:00:00+00:00", "jitter": "5s"},
    {"after": "10m", "start": "2026-12-01T00:00:00+00:00", "end": "2027-01-01T00:00:00+00:00"},
    {"any": [{"cron": "0 0 9 * * ?", "time_zone": "UTC", "repeated": "twice"}, {"every": "30s"}], "jitter": "1s"},
    {"all": [{"unix": "0 9 * * *", "time_zone": "Asia/Shanghai"}, {"at": "2026-12-01T01:00:00+00:00"}]},
]


@pytest.mark.parametrize("form", FORMS)
def test_a_trigger_reads_back_as_it_was_written(form):
    trigger = trigger_of(form)
    assert form_of_trigger(trigger) == form
    assert trigger_of(form_of_trigger(trigger)) == trigger


@pytest.mark.parametrize("form", FORMS)
def test_a_trigger_is_the_same_as_a_message(form):
    assert trigger_form(job_message(job(trigger=form)).trigger) == form


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({}, "exactly one"),
        ({"time_zone": "UTC"}, "exactly one"),
        ({"cron": "0 0 9 * * ?", "unix": "0 9 * * *"}, "exactly one"),
        ({"moon": "full"}, "'moon' is no trigger"),
        ({"every": "1m", "skipped": "shift"}, "go with cron and unix"),
        ({"any": [{"every": "1m"}], "time_zone": "UTC"}, "go with cron and unix"),
        ({"cron": "0 0 9 * * ?", "skipped": "once"}, "skipped is skip or shift"),
        ({"cron": "0 0 9 * * ?", "repeated": ["twice"]}, "repeated is once or twice"),
        ({"cron": "0 0 9 * * ?", "time_zone": 8}, "no text"),
        ({"cron": None}, "no text"),
        ({"manual": True, "jitter": "1s"}, "not with manual"),
        ({"every": "1m", "start": "2026-12-01T00:00:00"}, "offset"),
        ({"every": "1m", "start": "2200-01-01T00:00:00Z"}, "between"),
        ({"every": "1m", "start": "0001-01-01T00:00:00+14:00"}, "calendar"),
        ({"every": "1m", "end": "soon"}, "Invalid isoformat"),
        ({"every": "1m", "start": "2027-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "end lies before start"),
        ({"every": "1m", "jitter": "25h"}, "at most 1d"),
        ({"every": "1m", "jitter": 5}, "no text"),
        ({"after": "500ms"}, "at least 1s"),
        ({"any": []}, "list of 1 to 20"),
        ({"any": "0 0 9 * * ?"}, "list of 1 to 20"),
        ({"any": [{"every": "1m"}] * 21}, "list of 1 to 20"),
        ({"any": [{"every": "1m"}, {"every": "1ms"}]}, r"any\[1\]: every is at least"),
        ({"any": [{"after": "1m"}]}, r"any\[0\]: 'after' is no trigger"),
        ({"all": [{"manual": True}]}, r"all\[0\]: 'manual' is no trigger"),
        ({"all": [{"any": [{"every": "1m"}]}]}, r"all\[0\]: 'any' is no trigger"),
        ({"any": [{"every": "1m", "start": "2026-12-01T00:00:00Z"}]}, "beside any and all"),
        ({"any": ["every"]}, r"any\[0\]"),
    ],
)
def test_what_is_no_trigger_is_refused(form, told):
    with pytest.raises(ValueError, match=told):
        trigger_of(form)


def test_options_that_are_null_are_left_out():
    form = {"every": "1m", "start": None, "end": None, "jitter": None, "time_zone": None, "skipped": None}
    assert form_of_trigger(trigger_of(form)) == {"every": "1m"}
