"""The log of a run on the command line: read page by page, followed, and shown as lines of text."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shardcast.cli.context import Output, harmless, path_to, show
from shardcast.rest import RestClient

PAGE = 1_000
FOLLOW_SECONDS = 0.5

Page = Mapping[str, Any]


def log_pages(
    api: RestClient,
    run_id: str,
    *,
    shard: int | None,
    follow: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Page]:
    """What there is, and, if followed, what comes until the run has ended; the first page also if it is empty."""
    position, is_first = "", True
    while True:
        page = api.get(f"{path_to('runs', run_id)}/logs", shard=shard, after=position or None, limit=PAGE)
        if page["lines"] or is_first:
            yield page
        position, is_first = page["position"], False
        if page["more"]:
            continue
        if page["ended"] or not follow:
            return
        sleep(FOLLOW_SECONDS)


def whole_log(api: RestClient, run_id: str, *, shard: int | None) -> Page:
    """All pages as one body."""
    lines: list[Any] = []
    page: Page = {}
    for page in log_pages(api, run_id, shard=shard, follow=False):  # the last one is the body
        lines += page["lines"]
    return {**page, "lines": lines}


def show_log_page(page: Page, output: Output) -> None:
    """Lines of text, or the body: one line of JSON, or one document of YAML."""
    if output is Output.TABLE:
        for line in page["lines"]:
            print(log_text(line))
    elif output is Output.YAML:
        print("---")
        show(page, output, ())
    else:
        print(json.dumps(page, ensure_ascii=False))
    sys.stdout.flush()


def log_text(line: Mapping[str, Any]) -> str:
    """`time level shard/attempt text`."""
    text = harmless(line["text"])
    return f"{line['at']} {logging.getLevelName(line['level']):<8} {line['shard']}/{line['attempt']} {text}"
