"""When a job is due: triggers as data, the fire times that they name, and their plain form."""

from admin.domain.trigger.cron import QuartzCronTrigger
from admin.domain.trigger.fires import (
    checked_fires,
    cron_fires,
    delay_of,
    due_at,
    fire_times,
    first_fire,
    next_fire,
    preview,
)
from admin.domain.trigger.form import form_of_trigger, trigger_of
from admin.domain.trigger.kinds import (
    MANUAL,
    After,
    AllOf,
    AnyOf,
    At,
    Cron,
    Dialect,
    Every,
    Manual,
    Repeated,
    Rule,
    Skipped,
    Timed,
    Trigger,
)

__all__ = [
    "MANUAL",
    "After",
    "AllOf",
    "AnyOf",
    "At",
    "Cron",
    "Dialect",
    "Every",
    "Manual",
    "QuartzCronTrigger",
    "Repeated",
    "Rule",
    "Skipped",
    "Timed",
    "Trigger",
    "checked_fires",
    "cron_fires",
    "delay_of",
    "due_at",
    "fire_times",
    "first_fire",
    "form_of_trigger",
    "next_fire",
    "preview",
    "trigger_of",
]
