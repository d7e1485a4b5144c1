"""A real admin and a real broker for one test, with a clock that the test sets."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import yaml
from anyio.from_thread import BlockingPortal, start_blocking_portal

from broker.client.message import ReceivedMessage
from executor.app import Executor
from protos.errors import InvalidArgument, TimedOut
from shardcast.job_files import JobLoader
from shardcast.rest import RestClient
from shardcast.testing.clock import JumpingClock
from shardcast.testing.executors import ChildExecutor, LocalExecutor
from shardcast.testing.faults import Faults
from shardcast.testing.passing import LOOK_SECONDS, Passing
from shardcast.testing.runs import Run, run_of
from shardcast.testing.world import AnyExecutor, World, running_world

WAIT_SECONDS = 30.0
"""What a test waits for at most, if it does not say."""

LEASE = timedelta(seconds=2)


class TestServer:
    """A real admin and a real broker in this process, on a temporary directory and free ports; a context manager.

    Each app that is given runs on it as an executor. `start` is where the server's clock begins (aware; None: the real
    time); it goes on like the real one. `lease` is for how long a silent executor keeps its shards, by the real clock.
    `data` is a directory to be used in place of a temporary one. Blocking, for plain functions; in an async test its
    methods hold up the test's loop.
    """

    __test__ = False  # pytest: this is no class of tests

    def __init__(
        self, *apps: Executor, start: datetime | None = None, lease: timedelta = LEASE, data: Path | None = None
    ) -> None:
        self._apps = apps
        self._clock = JumpingClock(start)
        self._lease = lease
        self._data = data
        self._numbers = count(1)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            data = self._data or Path(stack.enter_context(TemporaryDirectory(prefix="shardcast-")))
            portal = stack.enter_context(start_blocking_portal())
            living = portal.wrap_async_context_manager(running_world(data, self._clock, self._lease))
            self._world: World = living.__enter__()
            stack.callback(living.__exit__, None, None, None)  # a test that fails is no failure of the server
            self._portal: BlockingPortal = portal
            self.api = stack.enter_context(RestClient(self.http, self.token))
            self.faults = Faults(self._world, portal)
            self._passing = Passing(self.api, self._clock, partial(portal.call, self._world.set_clock))
            for app in self._apps:
                self.start_executor(app)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def http(self) -> str:
        """The admin's HTTP address, e.g. "http://127.0.0.1:8080"."""
        return self._world.admin.endpoints["http"]

    @property
    def grpc(self) -> str:
        """The admin's gRPC address, "host:port"."""
        return self._world.admin.endpoints["grpc"]

    @property
    def broker(self) -> str:
        """The broker's address, "host:port": for Producer and Consumer."""
        return self._world.broker.endpoints["grpc"]

    @property
    def token(self) -> str:
        """An administrator's token, which executors may use as well."""
        return self._world.token

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells executors, clients and the command line where this server is: SHARDCAST_ADMIN and so on."""
        return {
            "SHARDCAST_SERVER": self.http,
            "SHARDCAST_ADMIN": self.grpc,
            "SHARDCAST_BROKER": self.broker,
            "SHARDCAST_TOKEN": self.token,
            "SHARDCAST_DATA": str(self._world.data / "embedded"),
        }

    @property
    def now(self) -> datetime:
        """The time by the server's clock, aware UTC."""
        return self._clock()

    @property
    def executors(self) -> Sequence[AnyExecutor]:
        """Those that run, in the order in which they were started."""
        return tuple(self._world.executors)

    def start_executor(self, app: Executor, *, name: str | None = None, slots: int = 4) -> LocalExecutor:
        """Runs an app in this process until the server ends; returns once the admin has let it in."""
        executor = LocalExecutor(app, name or self._next_name(), self._world.place, slots)
        self._portal.call(self._world.start, executor)
        return executor

    def start_process(
        self, app: str, *, name: str | None = None, slots: int = 4, environment: Mapping[str, str] | None = None
    ) -> ChildExecutor:
        """Runs MODULE:APP in a process of its own, which imports what this one can; it can be killed for real.

        Returns once the admin has let it in. Raises ExecutorRefused.
        """
        executor = ChildExecutor(app, name or self._next_name(), self._world.place, slots, environment or {})
        self._portal.call(self._world.start, executor)
        return executor

    def stop_executor(self, executor: AnyExecutor) -> None:
        """Drains it: what it runs ends or is handed back."""
        self._portal.call(self._world.stop, executor)

    def apply(self, jobs: Mapping[str, Any] | str | Path) -> None:
        """Creates or changes jobs: one job, {"jobs": [...]}, or such a file's text or path, in YAML or JSON.

        Raises what the admin refuses with, e.g. InvalidJob.
        """
        text = jobs.read_text() if isinstance(jobs, Path) else jobs
        document = yaml.load(text, JobLoader) if isinstance(text, str) else text
        if not isinstance(document, Mapping):
            raise InvalidArgument(reason='a job is a mapping with a name, several are {"jobs": [...]}')
        known = {job["name"] for job in self.api.get_all("/jobs", "jobs")["jobs"]}
        for job in document.get("jobs", [document]):
            if job.get("name") in known:
                self.api.put(f"/jobs/{job['name']}", job)
            else:
                self.api.post("/jobs", job)

    def job(self, name: str, handler: str, *, group: str | None = None, **fields: object) -> None:
        """Creates or changes one job; `group` may be left out where all executors that run are of one group.

        `fields` are those of a job's YAML: trigger, shards, params, retry, timeout, overlap, misfire.
        """
        groups = {group} if group else {each["group"] for each in self.api.get("/fleet")["executors"]}
        if len(groups) != 1:
            raise InvalidArgument(reason=f"say the group of the job {name}: executors of {sorted(groups)} run")
        self.apply({"name": name, "group": groups.pop(), "handler": handler, **fields})

    def trigger(self, job: str, params: object = None) -> Run:
        """Starts a run of a job by hand; `params` are laid over the job's own."""
        body = {} if params is None else {"params": params}
        return self._run(self.api.post(f"/jobs/{job}/trigger", body)["id"])

    def run(self, run: Run | str) -> Run:
        """The run with this id as it stands now."""
        return self._run(_id(run))

    def runs(self, job: str | None = None) -> Sequence[Run]:
        """All runs, or those of a job, oldest first."""
        found = self.api.get_all("/runs", "runs", job=job)["runs"]
        return [self._run(body["id"]) for body in reversed(found)]

    def wait(self, run: Run | str, *, state: str | None = "succeeded", seconds: float = WAIT_SECONDS) -> Run:
        """The run once it has ended.

        Raises UnexpectedEnd, with the errors of its shards, unless it ends in that state (None: any will do), and
        TimedOut where it has not ended in time. Tries that wait for the server's clock need `advance`.
        """
        if not self._portal.call(self._world.watch, _id(run), seconds):
            raise TimedOut(f"After {seconds:g} s {_unended(self.run(run))}.")
        ended = self.run(run)
        ended.check(state)
        return ended

    def advance(self, by: timedelta, *, wait: bool = True, seconds: float = WAIT_SECONDS) -> Sequence[Run]:
        """Lets time pass by the server's clock, without waiting for it; the runs that fired meanwhile, oldest first.

        Everything happens at its instant and in its order, be it a fire, another try or a delayed message. Before time
        goes on, whatever begins may end (or come to a pause before another try), if `wait`. An attempt that was under
        way when this was called goes on beside. Raises TimedOut where one instant took longer than `seconds`.

        Leases of shards follow the real clock: no executor loses what it runs by this, unless the job's timeout is
        over. Leases of messages follow the server's: `wait_read` first where listeners are at work.
        """
        return [self._run(each) for each in self._passing.pass_by(by, waits=wait, seconds=seconds)]

    def leap(self, by: timedelta, *, seconds: float = WAIT_SECONDS) -> Sequence[Run]:
        """As `advance` in one step, as if the admin had been away: what was due on the way is a misfire."""
        return [self._run(each) for each in self._passing.leap(by, seconds)]

    def messages(self, topic: str) -> Sequence[ReceivedMessage]:
        """All that is in a topic, by queue and offset; moves no group. Delayed ones are there once they are due."""
        return self._portal.call(self._world.messages, topic)

    def wait_read(self, group: str, *, seconds: float = WAIT_SECONDS) -> None:
        """Returns when a consumer group has done with every message of its topics. Raises TimedOut."""
        give_up_at = time.monotonic() + seconds
        while not self._portal.call(self._world.has_read, group):
            if time.monotonic() > give_up_at:
                raise TimedOut(f"After {seconds:g} s the group {group} has not read all.")
            time.sleep(LOOK_SECONDS)

    def lines(self, run: Run | str) -> Sequence[str]:
        """What the handlers of a run logged, as far as the admin has it: all of it once the run has ended."""
        found: list[str] = []
        position = ""
        while True:
            page = self.api.get(f"/runs/{_id(run)}/logs", after=position)
            found += [line["text"] for line in page["lines"]]
            position = page["position"]
            if not page["more"]:
                return found

    def _run(self, run_id: str) -> Run:
        return run_of(self.api.get(f"/runs/{run_id}"), self.api.get(f"/runs/{run_id}/shards")["shards"])

    def _next_name(self) -> str:
        return f"executor-{next(self._numbers)}"


def _id(run: Run | str) -> str:
    return run if isinstance(run, str) else run.id


def _unended(run: Run) -> str:
    said = "".join(f"\n{text}" for text in (run.reason, run.errors) if text)
    return f"run {run.id} of the job {run.job} is {run.state}{said}"
