"""A Kafka and a Redis as a company runs them: TLS, a password for each user, and no right that was not
granted by the files of deploy/.
"""

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import trustme
from cryptography.hazmat.primitives import serialization

from tests.docs.documents import ROOT
from tests.integration.guarded import Certificate, GuardedKafka, granted_by_script
from tests.rig.environment import Environment
from tests.rig.redis import RedisServer, free_port
from workers.streaming.rights import Right

KAFKA_USERS = ("trimtab-worker", "trimtab-outcomes", "trimtab-users", "trimtab-ops", "producer")
REDIS_USERS = ("trimtab-worker", "trimtab-outcomes", "trimtab-ops")
_QUICK = {"session.timeout.ms": "2000", "heartbeat.interval.ms": "500"}


class Secrets:
    """Passwords that are used nowhere else, so that a search for them proves something."""

    def __init__(self) -> None:
        self._known: list[str] = []

    def make(self, of: str) -> str:
        """A new one. Its special characters must be escaped in a URL."""
        secret = f"S3%cr%65t@{of}:{secrets.token_hex(8)}"
        self._known.append(secret)
        return secret

    def found_in(self, text: str) -> list[str]:
        """Those that the text shows, plain or as in a URL. Half of one counts too."""
        found = []
        for secret in self._known:
            parts = (secret, quote(secret, safe=""), secret.rpartition(":")[2])
            if any(part in text for part in parts):
                found.append(secret)
        return found


class SecuredServers:
    """Both servers, their certificates and their passwords."""

    def __init__(self, folder: Path, cache: Path, redis_server: Path) -> None:
        self.secrets = Secrets()
        self.authority = folder / "authority.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        certificate = authority.issue_cert("127.0.0.1", "localhost")

        self.kafka_passwords = {user: self.secrets.make(f"kafka-{user}") for user in KAFKA_USERS}
        both = folder / "broker.pem"
        both.write_bytes(
            _pkcs8(certificate) + b"".join(c.bytes() for c in certificate.cert_chain_pems)
        )
        self.kafka = GuardedKafka(
            folder / "kafka",
            cache,
            KAFKA_USERS,
            passwords=self.kafka_passwords,
            certificate=Certificate(both, self.authority),
        )

        self.redis_passwords = {user: self.secrets.make(f"redis-{user}") for user in REDIS_USERS}
        self.redis_tls_port = free_port()
        self.redis = self._make_redis(folder / "redis", certificate, redis_server)
        self.redis.start()
        for user, password in self.redis_passwords.items():
            self.redis.client.execute_command("ACL SETUSER", user, f">{password}")  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """End both."""
        self.redis.kill()
        self.kafka.end()

    def redis_url(self, user: str, password: str = "", **options: str) -> str:
        """The URL that a command is given."""
        word = quote(password or self.redis_passwords[user], safe="")
        query = {"ssl_ca_certs": str(self.authority)} | options
        pairs = "&".join(f"{name}={value}" for name, value in query.items())
        return f"rediss://{user}:{word}@127.0.0.1:{self.redis_tls_port}/0?{pairs}"

    def kafka_file(self, folder: Path, user: str, **changes: str) -> Path:
        """A file of Kafka properties for a user."""
        properties = _QUICK | self.kafka.properties(user)
        properties |= {name.replace("_", "."): value for name, value in changes.items()}
        file = folder / f"{user}.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return file

    def log_in(self, env: Environment, user: str, redis_user: str = "") -> None:
        """Processes of the environment that are started from now on are this user."""
        env.variables["TRIMTAB_KAFKA"] = self.kafka.guarded
        env.variables["TRIMTAB_KAFKA_CONFIG"] = str(self.kafka_file(env.folder, user))
        env.variables["TRIMTAB_REDIS"] = self.redis_url(redis_user or user)
        env.variables["TRIMTAB_REDIS_PREFIX"] = ""

    def grant(self, granted: Mapping[str, set[Right]]) -> None:
        """Let each user do this and nothing else."""
        for user in KAFKA_USERS:
            self.kafka.allow(user, granted.get(f"User:{user}", set()))

    def _make_redis(
        self, folder: Path, certificate: trustme.LeafCert, redis_server: Path
    ) -> RedisServer:
        """It also listens without TLS, for the administrator."""
        folder.mkdir()
        users = folder / "users.acl"
        shutil.copy(ROOT / "deploy" / "acl-redis7.conf", users)
        key, chain = folder / "key.pem", folder / "chain.pem"
        certificate.private_key_pem.write_to_path(str(key))
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        options = ["--tls-port", str(self.redis_tls_port), "--aclfile", str(users)]
        options += ["--tls-key-file", str(key), "--tls-cert-file", str(chain)]
        options += ["--tls-ca-cert-file", str(self.authority), "--tls-auth-clients", "no"]
        return RedisServer(folder, *options, binary=str(redis_server))


def script_rights(env: Environment) -> dict[str, set[Right]]:
    """What deploy/acl-kafka.sh grants to whom, on the topics and groups of an environment."""
    names = {
        name: value
        for name, value in env.settings.items()
        if name.startswith("TRIMTAB_TOPIC_") or name.endswith("GROUP")
    }
    folder = env.folder / f"{env.name}-acls"
    folder.mkdir()
    return granted_by_script(folder, names)


def _pkcs8(certificate: trustme.LeafCert) -> bytes:
    """The key in the form that Kafka reads."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
