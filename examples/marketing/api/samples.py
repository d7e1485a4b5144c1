"""Progress as it was a moment ago, kept in the process for those who ask again."""

from collections import OrderedDict
from threading import Lock

from examples.marketing.steering.outlook import Sample

WINDOW_MS = 10_000
_APART_MS = 500
_MOST_PROMOTIONS = 1_000


class Samples:
    """Of the promotions that were asked for last. Safe among threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, list[Sample]] = OrderedDict()
        self._lock = Lock()

    def before(self, promotion_id: int, now: Sample, first: Sample) -> Sample:
        """The sample to compare `now` with: the last one that is ten seconds old or older, else the oldest there is.

        `first` is it where nobody asked before.
        """
        with self._lock:
            kept = self._kept.setdefault(promotion_id, [])
            self._kept.move_to_end(promotion_id)
            while len(kept) > 1 and kept[1].at_ms <= now.at_ms - WINDOW_MS:
                del kept[0]
            found = kept[0] if kept and kept[0].at_ms < now.at_ms else first
            if not kept or now.at_ms - kept[-1].at_ms >= _APART_MS:
                kept.append(now)
            while len(self._kept) > _MOST_PROMOTIONS:
                self._kept.popitem(last=False)
            return found
