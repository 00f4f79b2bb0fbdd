"""Several live hosts share the partitions while members change, and shadow hosts fill what they leave."""

from __future__ import annotations

import asyncio
from typing import Any

from members.host import HostService
from tests.conftest import Broker
from tests.members.hosting import until
from tests.members.swaps import Stage, member, suite


def has(host: HostService) -> list[int]:
    return sorted(host._owned)


def done(*hosts: HostService) -> list[int]:
    """Per partition up to where these hosts have answered."""
    out = [0, 0]
    for host in hosts:
        for owned in host._owned.values():
            out[owned.partition] = max(out[owned.partition], owned.done)
    return out


async def more(world: Stage, *hosts: HostService, n: int = 100) -> None:
    """n more requests are answered on each partition, by any of these hosts."""
    goal = [at + n for at in world.sent]
    await until(lambda: all(at >= to for at, to in zip(done(*hosts), goal, strict=True)))


async def settle(world: Stage, shadow: HostService, *hosts: HostService) -> None:
    await world.quiet()
    await until(lambda: done(*hosts) == world.sent)
    await until(lambda: done(shadow) == world.sent)
    await until(lambda: not any(shadow._roster.news(each) for each in shadow._owned.values()))
    await until(lambda: done(shadow) == world.sent)


def hold(host: HostService) -> asyncio.Event:
    """The host does not come to an end of preparing a member before this is set."""
    gate, tried = asyncio.Event(), host._roster._tried  # type: ignore[union-attr]

    async def later(spec: Any) -> str:
        await gate.wait()
        return await tried(spec)

    host._roster._tried = later  # type: ignore[union-attr, method-assign]
    return gate


def test_a_partition_moves_to_a_host_that_is_still_preparing(broker: Broker) -> None:
    """What that one answers without the member the shadow host asks of it, up to where that one swaps."""
    declared = suite(f"moves-{broker.name}", member("new@1"))

    async def run() -> None:
        async with Stage(broker.bootstrap_servers, declared, session=1000) as world:
            one, two, shadow = await asyncio.gather(*map(world.follow, ("live", "live", "shadow")))
            await until(lambda: len(has(one)) == len(has(two)) == 1)
            gate = hold(two)
            world.traffic()
            await more(world, one, two)
            id = await world.deploy("new@1")
            assert (await world.answered_of("new@1")).ready == (one.name,)
            await world.write("swapped", "new@1", deployment=id)
            (moved,) = has(one)
            await until(lambda: moved in world.partitions_of(2))
            await more(world, one, two)
            await until(
                lambda: shadow._owned[moved].mark == world.registry.registry.servings[moved][-1].position
            )
            await world.crash(one)
            await until(lambda: has(two) == [0, 1])
            await more(world, two)
            assert two._roster.ids == ("base@1",)
            gate.set()
            await until(lambda: two._roster.ids == ("base@1", "new@1"))
            await more(world, two)
            third = await world.follow("live")  # and once more, to one that begins with the member
            await until(lambda: len(has(third)) == 1)
            await world.write("promoted", "new@1", deployment=id)
            await more(world, two, third)
            await settle(world, shadow, two, third)
            decided = await world.check("new@1")
            assert sorted(decided) == [1, 2]
            assert len({each.at for each in world.registry.registry.servings[moved]}) >= 4

    asyncio.run(run())


def test_a_host_without_a_partition(embedded_broker: Broker) -> None:
    """It may be the first that is ready, and dies after that: the others swap when they are."""
    declared = suite("spare", member("new@1"))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared, session=1000) as world:
            hosts = await asyncio.gather(*(world.follow("live") for _ in range(3)))
            shadow = await world.follow("shadow")
            await until(lambda: sorted(len(has(each)) for each in hosts) == [0, 1, 1])
            (spare,) = [each for each in hosts if not has(each)]
            busy = [each for each in hosts if each is not spare]
            gates = [hold(each) for each in busy]
            world.traffic()
            id = await world.deploy("new@1")
            assert (await world.answered_of("new@1")).ready == (spare.name,)
            await world.write("swapped", "new@1", deployment=id)
            await until(lambda: spare._roster.ids == ("base@1", "new@1"))
            assert not world.partitions_of(2)
            await more(world, *busy)
            await world.crash(spare)
            for gate in gates:
                gate.set()
            await world.served()
            await more(world, *busy)
            await settle(world, shadow, *busy)
            assert sorted(await world.check("new@1")) == [1, 2]

    asyncio.run(run())
