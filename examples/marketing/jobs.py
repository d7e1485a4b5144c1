"""The marketing system's jobs, as jobs.yaml has them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from examples.marketing.fanout.runs import code_of
from shardcast import ShardcastError
from shardcast.rest import RestClient

FILE = Path(__file__).parent / "jobs.yaml"


def jobs() -> Sequence[Mapping[str, object]]:
    found: Sequence[Mapping[str, object]] = yaml.safe_load(FILE.read_text())["jobs"]
    return found


def declare(admin: RestClient) -> list[str]:
    """Adds what the admin does not have, and leaves what somebody has changed; the names of what was added."""
    return [str(job["name"]) for job in jobs() if _was_added(admin, job)]


def _was_added(admin: RestClient, job: Mapping[str, object]) -> bool:
    try:
        admin.post("/jobs", job)
    except ShardcastError as error:
        if code_of(error) != "job_exists":
            raise
        return False
    return True


def main() -> None:
    try:
        with RestClient.from_env() as client:
            added = declare(client)
    except ShardcastError as error:
        sys.exit(str(error))
    for name in added:
        print(f"added the job {name}")


if __name__ == "__main__":
    main()
