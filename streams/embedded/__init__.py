"""A broker and a Redis of one's own, from Python wheels: for trying out and for tests, not for production."""

from streams.embedded.broker import EmbeddedBroker
from streams.embedded.redis import EmbeddedCluster, EmbeddedRedis

__all__ = ["EmbeddedBroker", "EmbeddedCluster", "EmbeddedRedis"]
