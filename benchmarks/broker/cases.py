"""The cases: what each publishes or reads, and how much of it at a time."""

from dataclasses import dataclass

READ_COUNT = 1_000


@dataclass(frozen=True, slots=True)
class Case:
    """A way to publish or to read. It takes one in `share` of the messages asked for."""

    name: str
    batch: int
    in_flight: int
    share: int = 1

    @property
    def topic(self) -> str:
        return self.name.replace(" ", "-")

    def count(self, messages: int) -> int:
        """How many messages it takes: whole batches."""
        return max(messages // self.share // self.batch, 1) * self.batch


THOUSAND = Case("publish batch 1000", batch=1_000, in_flight=8)
THOUSAND_ENCODED = Case("publish batch 1000 encoded", batch=1_000, in_flight=8)
HUNDRED = Case("publish batch 100", batch=100, in_flight=32, share=4)
SINGLE = Case("publish single 256", batch=1, in_flight=256, share=20)
SINGLE_ENCODED = Case("publish single 256 encoded", batch=1, in_flight=256, share=20)
FETCH = Case("fetch", batch=READ_COUNT, in_flight=4)  # a fetch for each queue
LATENCY = Case("latency", batch=1, in_flight=1, share=250)

FETCH_BEHIND = Case("fetch behind", batch=READ_COUNT, in_flight=4)
WHILE_BEHIND = Case("publish while behind", batch=1_000, in_flight=8)
