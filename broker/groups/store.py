"""Groups on disk: one file each, replaced whole; who owned a queue still owns it after a restart."""

import json
from pathlib import Path
from typing import TypedDict

from broker.groups.membership import Group, Member, Owned
from broker.log.disk import Disk, read_json
from broker.model import GroupName, MemberId, TopicName, TopicQueue

_SUFFIX = ".json"


class _StoredMember(TypedDict):
    member_id: str
    topics: list[str]
    session_seconds: float
    from_latest: bool


class _StoredQueue(TypedDict):
    topic: str
    queue: int
    owner: str | None
    generation: int
    offset: int


class _StoredGroup(TypedDict):
    members: list[_StoredMember]
    queues: list[_StoredQueue]


class GroupStore:
    """Blocks; raises OSError, DirectoryUnusable."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    def load(self, now: float) -> dict[GroupName, Group]:
        """All groups; their members count as alive for one session timeout from now."""
        names = (GroupName(path.name.removesuffix(_SUFFIX)) for path in self._directory.glob(f"*{_SUFFIX}"))
        return {name: _restore(name, read_json(self._path(name)), now) for name in names}

    def save(self, group: Group) -> None:
        """Durable when this returns."""
        self._disk.replace(self._path(group.name), json.dumps(_store(group)).encode())

    def _path(self, name: GroupName) -> Path:
        return self._directory / f"{name}{_SUFFIX}"


def _store(group: Group) -> _StoredGroup:
    return {
        "members": [
            {
                "member_id": member_id,
                "topics": sorted(member.topics),
                "session_seconds": member.session_seconds,
                "from_latest": member.from_latest,
            }
            for member_id, member in group.members.items()
        ],
        "queues": [
            {
                "topic": at.topic,
                "queue": at.queue,
                "owner": owned.owner,
                "generation": owned.generation,
                "offset": owned.offset,
            }
            for at, owned in group.queues.items()
        ],
    }


def _restore(name: GroupName, stored: _StoredGroup, now: float) -> Group:
    members = {
        MemberId(member["member_id"]): Member(
            frozenset(map(TopicName, member["topics"])),
            member["session_seconds"],
            now + member["session_seconds"],
            member["from_latest"],
        )
        for member in stored["members"]
    }
    queues = {
        TopicQueue(TopicName(queue["topic"]), queue["queue"]): Owned(
            MemberId(queue["owner"]) if queue["owner"] is not None else None, queue["generation"], queue["offset"]
        )
        for queue in stored["queues"]
    }
    return Group(name, members, queues)
