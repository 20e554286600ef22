"""LiveKit's Python SDK with a list of servers to fall back to."""

from outlast_client.room import FallbackRoom
from outlast_client.source import Endpoint, Servers, Source, Where

__all__ = ["Endpoint", "FallbackRoom", "Servers", "Source", "Where"]
