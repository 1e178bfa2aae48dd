"""A Kafka whose authorizer is on: who logs in by a password may do what was granted, and nothing
else.

The project's own broker with a second listener. Who comes by the first, without a password, may do
everything. The second asks for a password in the clear, or, if a certificate is given, for
SCRAM-SHA-512 behind TLS.
"""

import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# The package exports these for use, only not in the form that strict typing asks for.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from tests.docs.documents import ROOT
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
_SCRIPT = ROOT / "deploy" / "acl-kafka.sh"


class Certificate(NamedTuple):
    """Files of a listener behind TLS: its key (PKCS 8) with its certificate, and the authority that
    clients trust.
    """

    key_and_certificate: Path
    authority: Path


class GuardedKafka:
    """One broker, the users that may log in, and what each may do.

    Each user has a password, "pw" unless `passwords` names another.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        users: Iterable[str],
        *,
        passwords: Mapping[str, str] | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._passwords = dict.fromkeys(users, _PASSWORD) | dict(passwords or {})
        self._certificate = certificate
        port = free_port(())
        controller_port = free_port((port,))
        guarded_port = free_port((port, controller_port))
        self.open = kafka_address(port)
        self.guarded = kafka_address(guarded_port)
        self._server = prepare_kafka(folder, port, controller_port, cache, print)
        settings = folder / "server.properties"
        text = _add_listener(settings.read_text(), port, guarded_port, self._protocol)
        settings.write_text(text + self._login_settings())
        self._process = self._server.start()
        self._server.wait_until_answers(self._process)
        self._admin = Cluster(self.open).admin()
        if certificate is not None:
            self._set_passwords()

    def end(self) -> None:
        processes.end(self._process, _END_SECONDS)

    def properties(self, user: str) -> dict[str, str]:
        """What a client of this user needs."""
        properties = {
            "security.protocol": self._protocol,
            "sasl.mechanisms": "PLAIN" if self._certificate is None else "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self._passwords[user],
        }
        if self._certificate is not None:
            properties["ssl.ca.location"] = str(self._certificate.authority)
        return properties

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

    @property
    def _protocol(self) -> str:
        return "SASL_PLAINTEXT" if self._certificate is None else "SASL_SSL"

    def _login_settings(self) -> str:
        """How the second listener knows who logs in, and the authorizer."""
        listener = f"listener.name.{self._protocol.lower()}"
        lines = [
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
        ]
        if self._certificate is None:
            passwords = " ".join(f'user_{user}="{word}"' for user, word in self._passwords.items())
            module = (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {passwords};"
            )
            lines += [
                "sasl.enabled.mechanisms=PLAIN",
                f"{listener}.plain.sasl.jaas.config={module}",
            ]
        else:
            module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            lines += [
                "sasl.enabled.mechanisms=SCRAM-SHA-512",
                f"{listener}.scram-sha-512.sasl.jaas.config={module}",
                f"{listener}.ssl.keystore.type=PEM",
                f"{listener}.ssl.keystore.location={self._certificate.key_and_certificate}",
            ]
        return "\n".join(lines) + "\n"

    def _set_passwords(self) -> None:
        """The broker keeps SCRAM passwords itself."""
        hashed = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        changes: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user, hashed, word.encode())
            for user, word in self._passwords.items()
        ]
        for changed in self._admin.alter_user_scram_credentials(changes).values():
            changed.result()

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


def _add_listener(settings: str, port: int, guarded_port: int, protocol: str) -> str:
    """The project's settings with a second listener of this protocol."""
    first = f"PLAINTEXT://{kafka_address(port)}"
    second = f"{protocol}://{kafka_address(guarded_port)}"
    names = "listener.security.protocol.map="
    changes: Mapping[str, str] = {
        f"listeners={first},": f"listeners={first},{second},",
        f"advertised.listeners={first}": f"advertised.listeners={first},{second}",
        names: f"{names}{protocol}:{protocol},",
    }
    lines = []
    for line in settings.splitlines():
        change = next((old for old in changes if line.startswith(old)), None)
        lines.append(line if change is None else line.replace(change, changes[change], 1))
    return "\n".join(lines) + "\n"


def granted_by_script(
    folder: Path, names: Mapping[str, str], access: Sequence[str] = ()
) -> dict[str, set[Right]]:
    """What deploy/acl-kafka.sh grants to whom. `names` are its variables, `access` its arguments.

    The script runs with a stand-in for kafka-acls.sh, which writes down its arguments.
    """
    stand_in = folder / "kafka-acls.sh"
    stand_in.write_text('#!/bin/sh\nprintf "%s " "$@" >> granted\necho >> granted\n')
    stand_in.chmod(0o755)
    variables = {**names, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([_SCRIPT, *access], env=variables, cwd=folder, check=True)

    granted: dict[str, set[Right]] = {}
    for line in (folder / "granted").read_text().splitlines():
        words = shlex.split(line)
        begin = [*access, "--add", "--allow-principal"]
        assert words[: len(begin)] == begin
        principal, *rest = words[len(begin) :]
        granted.setdefault(principal, set()).update(_rights_of(rest))
    return granted


def _rights_of(words: Sequence[str]) -> Iterator[Right]:
    pairs = list(zip(words[::2], words[1::2], strict=True))
    prefixed = ("--resource-pattern-type", "prefixed") in pairs
    (option, name) = next(
        pair for pair in pairs if pair[0] not in ("--operation", "--resource-pattern-type")
    )
    for word, operation in pairs:
        if word == "--operation":
            yield Right(
                operation,
                Resource(option.removeprefix("--")),
                name,
                prefix=name if prefixed else "",
            )


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
