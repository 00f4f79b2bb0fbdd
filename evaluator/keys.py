"""Every Redis key of Chorus, what it holds and how long it lives.

``chorus:{suite}:meta``        hash: schema, shards, bucket, generation. Written once, checked by everybody.

``chorus:{suite}:reviews:<hour>`` hash: ``spent``, how many reviews were asked for in this hour of the wall
clock; ``minute:<0…59>``, the rounds of asking that were held. Gone two hours after the last one.

``chorus:{suite}:registry``    hash: ``document``, the registry (JSON), and ``applied``, the offset of the
`members` topic up to which it is folded. ``chorus:{suite}:slot`` hash, expires: ``holder`` and ``token`` of
the deployment slot; ``chorus:{suite}:slot-token`` the last token given.

``chorus:{suite}:webhook:<name>`` hash: ``through``, the offset of `alerts` up to which the receiver was told;
``c:<fingerprint>``, each condition that fires for it; ``told``, how many events it was told. With ``:ids``
behind it a sorted set: the ids of the last 10 000 of them. They live until you delete them.

For each shard there is a prefix ``chorus:{suite:shard}:``; the braces are the Redis Cluster hash tag, so that
a shard lies on one node and one script reaches all of it.

============== ====== ==================================================================================
applied        hash   log partition (``votes:0``, ``labels:3``, …) → offset applied up to
slots          hash   member id → its bit in the masks; never reused
coverage       hash   ``votes partition|requests partition|member`` → offsets scored (intervals)
watermarks     hash   ``requests partition|member`` → [end offset, ms or nil, idle, partitions, revision]
labels         hash   labels partition → [greatest labelled_at seen (a few), drained]
letters        hash   ``log partition|topic|partition`` → origin offsets of dead letters (intervals)
generations    set    generations (event time ÷ generation length) that have records
r:<generation> hash   request id → record (evaluator/lua/apply.lua says how it is packed)
pending        set    generations (of labelled_at) in which labels wait for a request that is not known yet
p:<generation> hash   request id → the label that waits
versions       hash   bucket start (ms) → a token that changes whenever the bucket does
b:<bucket>     hash   ``h`` + (true, abstain, segment, revision, state) → requests; ``v`` volume;
                      ``s``, ``a``, ``e`` + member id → positions scored, abstained, failed
delays         hash   ``generation|label|bin`` → labels that came so long after their request
sources        hash   label source → the number that stands for it in records
asked          set    generations of requests that reviewers were asked about
q:<generation> hash   request id → [asked at (ms), event time (ms), class, probability]
sampled        hash   generation that has examples → a number that grows whenever its samples change
s:<generation> set    members that have examples; ``s:<generation>:<member>``, sorted set: hit → score
f:<generation> hash   hit that is an example → its features
announced      hash   ``member|verdict``, ``member|decay`` → what was last put on `alerts` (shard 0 only)
counters       hash   late, gaps, gap_records, expired_labels
horizon        string the oldest generation that is kept
============== ====== ==================================================================================

All of it dies by event time, a generation at a time, never by the wall clock: a replay of last year would
otherwise expire at once. ``chorus rebuild`` makes all of it anew from Kafka, but for what was asked and
announced, which it leaves alone.
"""

from __future__ import annotations

import zlib


def meta_key(suite: str) -> str:
    """The hash that says how the suite's store is laid out."""
    return f"chorus:{{{suite}}}:meta"


def reviews_key(suite: str, hour: int) -> str:
    """The hash of the review budget of one hour since 1970."""
    return f"chorus:{{{suite}}}:reviews:{hour}"


def registry_key(suite: str) -> str:
    """The hash with the registry's view."""
    return f"chorus:{{{suite}}}:registry"


def slot_keys(suite: str) -> tuple[str, str]:
    """The lease of the deployment slot, and its last token."""
    return f"chorus:{{{suite}}}:slot", f"chorus:{{{suite}}}:slot-token"


def webhook_keys(suite: str, receiver: str) -> tuple[str, str]:
    """What a receiver of webhooks was told: the hash, and the sorted set of ids."""
    key = f"chorus:{{{suite}}}:webhook:{receiver}"
    return key, f"{key}:ids"


def shard_prefix(suite: str, shard: int) -> str:
    """Prefix of all keys of one shard."""
    return f"chorus:{{{suite}:{shard}}}:"


def shard_of(request_id: str, shards: int) -> int:
    """The shard of a request id: CRC-32 of its UTF-8, modulo the number of shards."""
    return zlib.crc32(request_id.encode()) % shards if shards > 1 else 0
