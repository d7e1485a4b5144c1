"""How far a promotion is and when it will be done, from what was counted at two moments."""

from collections.abc import Mapping
from dataclasses import dataclass

from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import State
from examples.marketing.store.progress import Counts


@dataclass(frozen=True, slots=True)
class Sample:
    """What had come to an end at that moment."""

    at_ms: int
    handled: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """`share` from 0 to 1, `rate` in messages a second, `eta_seconds` None where nothing moves or it has ended."""

    share: float
    rate: float
    eta_seconds: float | None


def outlook(before: Sample, now: Sample, total: int) -> Outlook:
    """`total` is how many are expected to come to an end."""
    left = max(total - now.handled, 0)
    seconds = (now.at_ms - before.at_ms) / 1000
    rate = max(now.handled - before.handled, 0) / seconds if seconds > 0 else 0.0
    share = 1.0 if total <= 0 else min(now.handled / total, 1.0)
    return Outlook(share, rate, left / rate if rate > 0 and left else None)


def total_of(counts: Mapping[Phase, Counts]) -> Counts:
    """Of both phases together."""
    canary, rest = counts[Phase.CANARY], counts[Phase.REST]
    return Counts(
        covered=canary.covered + rest.covered,
        published=canary.published + rest.published,
        delivered=canary.delivered + rest.delivered,
        dropped=canary.dropped + rest.dropped,
        capped=canary.capped + rest.capped,
        failed=canary.failed + rest.failed,
    )


def expected(promotion: Promotion, counts: Mapping[Phase, Counts]) -> int:
    """How many messages it leads to: what is known of it, and as long as it is not, at most so many."""
    published = total_of(counts).published
    if promotion.state is State.COMPLETED or _is_covered(promotion, counts):
        return published
    if promotion.audience_size is not None:
        return max(promotion.audience_size, published)
    return max(promotion.last_id - promotion.first_id + 1, published)


def _is_covered(promotion: Promotion, counts: Mapping[Phase, Counts]) -> bool:
    """Whether the bucket way has come past all users."""
    width = promotion.last_id - promotion.first_id + 1
    return not promotion.goes_by_shards and counts[Phase.REST].covered >= width > 0
