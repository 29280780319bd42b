"""A client of the Conductor Gateway."""

from ._async import AsyncClient
from ._shared import Event, GatewayError, JobFailed, StreamCut
from ._sync import Client

__all__ = ["AsyncClient", "Client", "Event", "GatewayError", "JobFailed", "StreamCut"]
