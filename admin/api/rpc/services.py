"""What the gRPC server offers, and who may call it."""

from admin.api.rpc.jobs import JobService
from admin.api.rpc.runs import RunService
from admin.operations.access import Access
from admin.operations.jobs import Jobs
from admin.operations.logs.reading import Logs
from admin.operations.runs import Runs
from protos.admin.v1.job_pb2_grpc import add_JobServiceServicer_to_server
from protos.admin.v1.run_pb2_grpc import add_RunServiceServicer_to_server
from protos.server import Authorize, Service

LINK = "/shardcast.executor.v1.LinkService/"


def admin_services(jobs: Jobs, runs: Runs, logs: Logs) -> list[Service]:
    return [
        Service("shardcast.admin.v1.JobService", add_JobServiceServicer_to_server, JobService(jobs)),
        Service("shardcast.admin.v1.RunService", add_RunServiceServicer_to_server, RunService(runs, logs)),
    ]


def authorize_with(access: Access) -> Authorize:
    """The link takes any token, whose group it checks itself; all else is for administrators."""

    async def authorize(method: str, secret: str) -> object:
        if method.startswith(LINK):
            return await access.authenticate(secret)
        return await access.authenticate_admin(secret)

    return authorize
