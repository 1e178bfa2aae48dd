"""A collector of traces as a process sees it: OTLP over HTTP, in Protobuf."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from workers.tracing.request_traces import AttributeValue


class Collector:
    """Takes spans. `status` is what it answers. `authorization` has what it was sent as that header.

    It may be asked from another thread. `tls`: it speaks HTTPS.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.spans = list[Span]()
        self.resources = list[dict[str, AttributeValue]]()
        self.authorization = list[str | None]()
        self.status = HTTPStatus.OK
        collector = self

        # HTTP/1.0: no connection outlives its answer, and so none outlives the collector.
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.authorization.append(self.headers["Authorization"])
                if collector.status is HTTPStatus.OK and self.path == "/v1/traces":
                    collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status, "of a collector with a token in its words")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port

    def take(self, exported: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        for of_resource in exported.resource_spans:
            attributes = {
                one.key: one.value.string_value for one in of_resource.resource.attributes
            }
            self.resources.append(dict(attributes))
            for scope in of_resource.scope_spans:
                self.spans += scope.spans

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running_collector(tls: ssl.SSLContext | None = None) -> Iterator[Collector]:
    """A collector on a port of its own while the block runs."""
    collector = Collector(tls)
    thread = threading.Thread(target=collector.serve, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.close()
        thread.join()


def attributes_of(span: Span) -> dict[str, AttributeValue]:
    """The attributes of a span, as Python's values."""
    values: dict[str, AttributeValue] = {}
    for one in span.attributes:
        kind = one.value.WhichOneof("value")
        if kind == "string_value":
            values[one.key] = one.value.string_value
        elif kind == "int_value":
            values[one.key] = one.value.int_value
        elif kind == "bool_value":
            values[one.key] = one.value.bool_value
        else:
            values[one.key] = tuple(part.string_value for part in one.value.array_value.values)
    return values
