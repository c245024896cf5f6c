"""The version of this library, and of the protocol it speaks."""

from __future__ import annotations

__version__ = "0.1.0"

#: Highest protocol version this library speaks, as (major, minor).
PROTOCOL_VERSION = (1, 0)

#: How the library names itself in the handshake.
CLIENT_NAME = "taskerd-python/" + __version__
