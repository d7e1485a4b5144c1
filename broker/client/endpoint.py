"""Where a broker is: "host:port", told apart from what only looks like it."""

from broker.errors import BadRequest
from protos.errors import NotSupported


def checked(endpoint: str) -> str:
    """The endpoint, if it is "host:port". Raises BadRequest, or NotSupported for another system's scheme."""
    if endpoint.startswith("rocketmq://"):
        raise NotSupported(feature="an endpoint of Apache RocketMQ")
    host, _, port = endpoint.rpartition(":")
    if not host or "/" in endpoint or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise BadRequest(reason=f'the endpoint {endpoint!r} is not "host:port", e.g. 127.0.0.1:8081')
    return endpoint
