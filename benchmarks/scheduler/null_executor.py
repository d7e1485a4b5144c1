"""An executor that runs nothing: `python -m benchmarks.scheduler.null_executor ADDRESSES TOKEN GROUP SAMPLES`.

Each assignment has succeeded when it arrives. It takes orders on standard input, one a line, and answers each with a
JSON line of its counts: `count`, `wait N SECONDS` (until so many outcomes are accepted, not longer than that),
`arrive N SECONDS` (until so many arrived), `save` (its samples), `finish` (saves them, tells the lateness too, and
ends). A hung one beats, so that it is given work, and answers nothing else.
"""

import argparse
import asyncio
import itertools
import json
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import uvloop

from benchmarks.scheduler.ledger import HANDLER, SLOTS, Ledger
from protos.channel import bearer, dial
from protos.executor.v1 import link_pb2 as pb
from protos.executor.v1.link_pb2_grpc import LinkServiceStub

_AGAIN_SECONDS = 0.05
_LOOK_SECONDS = 0.005
_SAVE = b"save\n"
_FINISH = b"finish\n"
_AWAITED = {"wait": "accepted", "arrive": "arrived"}

Outgoing = asyncio.Queue[pb.ConnectRequest]


class NullExecutor:
    """One link at a time, to the first admin that answers."""

    def __init__(self, addresses: list[str], token: str, group: str, *, is_hung: bool) -> None:
        self.ledger = Ledger()
        self._addresses = itertools.cycle(addresses)
        self._token = token
        self._group = group
        self._is_hung = is_hung
        self._id = f"null-{uuid.uuid4().hex}"

    async def run(self) -> None:
        """For ever; a link that breaks is made again."""
        for address in self._addresses:
            try:
                async with dial(address) as channel:
                    await self._converse(channel)
            except grpc.aio.AioRpcError as error:
                print(f"{address}: {error.code().name} {error.details()}", file=sys.stderr, flush=True)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _converse(self, channel: grpc.aio.Channel) -> None:
        outgoing: Outgoing = asyncio.Queue()
        outgoing.put_nowait(pb.ConnectRequest(register=self._register()))
        if self.ledger.waiting:
            outgoing.put_nowait(pb.ConnectRequest(report=pb.Report(outcomes=self.ledger.unanswered())))
        beating: asyncio.Task[None] | None = None
        try:
            async for response in LinkServiceStub(channel).Connect(_sent(outgoing), metadata=bearer(self._token)):
                if response.WhichOneof("kind") == "welcome":
                    beating = asyncio.create_task(self._beat(outgoing, response.welcome.beat_period_ms / 1_000))
                else:
                    self._on_response(response, outgoing)
        finally:
            if beating is not None:
                beating.cancel()

    def _register(self) -> pb.Register:
        return pb.Register(
            group=self._group,
            executor_id=self._id,
            name=self._id,
            handlers=[pb.Handler(name=HANDLER)],
            slots=SLOTS,
            held=self.ledger.held(),
        )

    def _on_response(self, response: pb.ConnectResponse, outgoing: Outgoing) -> None:
        if self._is_hung:
            return
        match response.WhichOneof("kind"):
            case "assign":
                outcomes = self.ledger.take(response.assign.assignments)
                outgoing.put_nowait(pb.ConnectRequest(report=pb.Report(outcomes=outcomes)))
            case "report_accepted":
                self.ledger.settle(response.report_accepted.answers)
            case "beat_accepted":
                self.ledger.lose(response.beat_accepted.lost)
            case "lease_lost":
                self.ledger.lose([response.lease_lost.attempt])

    async def _beat(self, outgoing: Outgoing, period: float) -> None:
        for number in itertools.count(1):
            outgoing.put_nowait(pb.ConnectRequest(beat=pb.Beat(number=number, held=self.ledger.held())))
            await asyncio.sleep(period)


async def _sent(outgoing: Outgoing) -> AsyncIterator[pb.ConnectRequest]:
    while True:
        yield await outgoing.get()


async def _obey(executor: NullExecutor, samples: Path) -> None:
    """Until it is told to finish, or whoever gives the orders is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        await _until(executor.ledger, *line.decode().split())
        if line in (_SAVE, _FINISH):
            executor.ledger.save(samples)
        last = executor.ledger.lateness() if line == _FINISH else {}
        print(json.dumps({**executor.ledger.counts(), **last}), flush=True)
        if line == _FINISH:
            return


async def _until(ledger: Ledger, order: str, count: str = "0", seconds: str = "0") -> None:
    loop = asyncio.get_running_loop()
    awaited, deadline = _AWAITED.get(order, "arrived"), loop.time() + float(seconds)
    while ledger.counts()[awaited] < int(count) and loop.time() < deadline:  # noqa: ASYNC110  # no event in its way
        await asyncio.sleep(_LOOK_SECONDS)


async def _live(options: argparse.Namespace) -> None:
    executor = NullExecutor(options.addresses.split(","), options.token, options.group, is_hung=options.hung)
    running = asyncio.create_task(executor.run())
    await asyncio.wait(
        (running, asyncio.create_task(_obey(executor, options.samples))), return_when=asyncio.FIRST_COMPLETED
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", help="host:port,...")
    parser.add_argument("token")
    parser.add_argument("group")
    parser.add_argument("samples", type=Path)
    parser.add_argument("--hung", action="store_true")
    uvloop.run(_live(parser.parse_args()))


if __name__ == "__main__":
    main()
