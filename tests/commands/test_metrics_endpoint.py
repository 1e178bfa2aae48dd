"""Where metrics are served, and what is said if they cannot be."""

import socket
import urllib.request

import pytest

from tests.rig.redis import free_port
from workers.commands.metrics_endpoint import MetricsEndpoint
from workers.metrics.health import Health
from workers.metrics.server import listen
from workers.metrics.view import Sources
from workers.settings import ConfigurationError

GOOD = Sources(
    samples=list, live=lambda: Health(True, ""), ready=lambda: Health(True, ""), status=bytes
)


def status(port: int, path: str = "/livez") -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
        return int(reply.status)


def test_a_process_listens_on_the_port_of_its_stage_plus_its_slot() -> None:
    base = free_port() - 2003
    with MetricsEndpoint("users", "127.0.0.1", base).of_process(3) as view:
        assert status(base + 2003) == 200
        view.sources = GOOD
        assert status(base + 2003, "/readyz") == 200


def test_without_a_port_nothing_is_served() -> None:
    endpoint = MetricsEndpoint("ranking", "127.0.0.1", None)
    with endpoint.of_process(0) as view:
        view.sources = GOOD
    with endpoint.of_parent(2) as sockets:
        assert sockets == ()


def test_a_child_answers_on_the_socket_of_its_parent_alone() -> None:
    port = free_port()
    with MetricsEndpoint("ranking", "127.0.0.1", port).of_parent(1) as (of_child,):
        inherited = of_child.dup().detach()
        endpoint = MetricsEndpoint("ranking", "127.0.0.1", port).in_child(inherited)
        with endpoint.of_process(7) as view:
            view.sources = GOOD
            assert status(port, "/readyz") == 200


@pytest.mark.parametrize("is_parent", [False, True])
def test_a_port_that_is_taken_is_refused_with_what_to_do(is_parent: bool) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        endpoint = MetricsEndpoint("ranking", "127.0.0.1", port)
        serving = endpoint.of_parent(2) if is_parent else endpoint.of_process(0)
        with pytest.raises(ConfigurationError) as refused, serving:
            pass
    assert str(refused.value) == (
        f"metrics_port: cannot listen on 127.0.0.1:{port} for slot 0 of the stage 'ranking':"
        " Address already in use; expected a free port of this host."
        " Give another with --metrics-port or TRIMTAB_METRICS_PORT"
    )


def test_an_address_that_is_not_ours_is_refused() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^metrics_host: cannot listen on 192\.0\.2\.1:"),
        MetricsEndpoint("ranking", "192.0.2.1", free_port()).of_process(0),
    ):
        pass


def test_a_slot_whose_port_is_too_high_is_refused() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"which makes 65536 for slot 1 .* expected 65535"),
        MetricsEndpoint("ranking", "127.0.0.1", 65_535).of_process(1),
    ):
        pass


def test_the_port_is_free_again_afterwards() -> None:
    port = free_port()
    with MetricsEndpoint("join", "127.0.0.1", port - 1000).of_process(0):
        assert status(port) == 200
    with socket.create_server(("127.0.0.1", port)):
        pass
