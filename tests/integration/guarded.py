"""A Kafka whose authorizer is on: who logs in by a password may do what was granted, and nothing
else.

The project's own broker with a second listener. Who comes by the first, without a password, may do
everything.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# The package exports these for use, only not in the form that strict typing asks for.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.rig.process import until
from workers.local import processes
from workers.local.kafka_server import kafka_address, prepare_kafka
from workers.local.server import free_port
from workers.streaming.clients import Cluster
from workers.streaming.rights import Resource, Right

_PASSWORD = "pw"
_TYPES = {
    Resource.TOPIC: ResourceType.TOPIC,
    Resource.GROUP: ResourceType.GROUP,
    Resource.TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
    Resource.CLUSTER: ResourceType.BROKER,
}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "IdempotentWrite": AclOperation.IDEMPOTENT_WRITE,
}
_END_SECONDS = 15.0


class GuardedKafka:
    """One broker, the users that may log in, and what each may do."""

    def __init__(self, folder: Path, cache: Path, users: Iterable[str]) -> None:
        port = free_port(())
        controller_port = free_port((port,))
        guarded_port = free_port((port, controller_port))
        self.open = kafka_address(port)
        self.guarded = kafka_address(guarded_port)
        self._server = prepare_kafka(folder, port, controller_port, cache, print)
        settings = folder / "server.properties"
        settings.write_text(_guard(settings.read_text(), port, guarded_port, users))
        self._process = self._server.start()
        self._server.wait_until_answers(self._process)
        self._admin = Cluster(self.open).admin()

    def end(self) -> None:
        processes.end(self._process, _END_SECONDS)

    def properties(self, user: str) -> dict[str, str]:
        """What a client of this user needs."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": user,
            "sasl.password": _PASSWORD,
        }

    def cluster(self, user: str) -> Cluster:
        """The cluster as this user sees it."""
        return Cluster(self.guarded, self.properties(user))

    def allow(self, user: str, rights: Iterable[Right]) -> None:
        """Let the user do this and nothing else; returns once the broker has applied it."""
        wanted = {_binding(user, right) for right in rights}
        there = self._bindings(user)
        for created in (
            self._admin.create_acls(list(wanted - there)).values() if wanted - there else ()
        ):
            created.result()
        for binding in there - wanted:
            for deleted in self._admin.delete_acls([_exactly(binding)]).values():
                deleted.result()
        until(lambda: self._bindings(user) == wanted)

    def _bindings(self, user: str) -> set[AclBinding]:
        anything: Any = None
        pattern = ResourcePatternType.ANY
        permission = AclPermissionType.ANY
        everything = AclBindingFilter(
            ResourceType.ANY,
            anything,
            pattern,
            f"User:{user}",
            anything,
            AclOperation.ANY,
            permission,
        )
        return set(self._admin.describe_acls(everything).result())


def _guard(settings: str, port: int, guarded_port: int, users: Iterable[str]) -> str:
    """The project's settings with an authorizer and a listener that asks for a password."""
    first = f"PLAINTEXT://{kafka_address(port)}"
    second = f"SASL_PLAINTEXT://{kafka_address(guarded_port)}"
    passwords = " ".join(f'user_{user}="{_PASSWORD}"' for user in users)
    module = f"org.apache.kafka.common.security.plain.PlainLoginModule required {passwords};"
    changes: Mapping[str, str] = {
        f"listeners={first},": f"listeners={first},{second},",
        f"advertised.listeners={first}": f"advertised.listeners={first},{second}",
        "listener.security.protocol.map=": "listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,",
    }
    lines = []
    for line in settings.splitlines():
        change = next((old for old in changes if line.startswith(old)), None)
        lines.append(line if change is None else line.replace(change, changes[change], 1))
    lines += [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
        "sasl.enabled.mechanisms=PLAIN",
        f"listener.name.sasl_plaintext.plain.sasl.jaas.config={module}",
    ]
    return "\n".join(lines) + "\n"


def _binding(user: str, right: Right) -> AclBinding:
    return AclBinding(
        _TYPES[right.resource],
        right.prefix or right.name,
        ResourcePatternType.PREFIXED if right.prefix else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        _OPERATIONS[right.operation],
        AclPermissionType.ALLOW,
    )


def _exactly(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )
