"""Members that come and go while requests are answered, on real brokers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from members import deploying
from streams.records import SUITE
from tests.conftest import Broker
from tests.members.hosting import until
from tests.members.swaps import Stage, member, suite
from tests.members.voters_for_tests import SWITCH


async def settle(world: Stage, *hosts: Any) -> None:
    """Traffic ends, and these hosts answer what is left of it."""
    await world.quiet()
    await until(lambda: all(world.caught_up(host) for host in hosts))


def test_promote_replace_roll_back_retire(broker: Broker) -> None:
    """Each change is one swap: nothing undecided, every revision true, no gap in what a member has scored."""
    declared = suite(
        f"swaps-{broker.name}",
        member("new@1"),
        member("new@2", above=0.3, more='replaces = "new@1"'),
        member("other@1", above=0.7),
    )

    async def run() -> None:
        async with Stage(broker.bootstrap_servers, declared) as world:
            live, shadow = await asyncio.gather(world.follow("live"), world.follow("shadow"))
            assert shadow.group == f"{declared.name}.shadow.0of1"
            world.traffic()
            await world.more(live, shadow)
            await world.promote("new@1")
            await until(lambda: "new@1" not in shadow._panel.ids)  # handed over
            await world.more(live, shadow)
            id = await world.deploy("new@2")  # the better version, and back
            await world.answered_of("new@2")
            await world.write("swapped", "new@2", deployment=id)
            await world.served()
            await world.more(live, shadow)
            await world.write("rolled_back", "new@2", deployment=id)
            await world.served()
            await world.more(live, shadow)
            await world.promote("other@1")
            await world.write("retired", "base@1")
            await world.served()
            await world.more(live, shadow)
            await settle(world, live, shadow)
            decided = await world.check("new@1", "new@2", "other@1")
            assert sorted(decided) == [1, 2, 3, 4, 5, 6]
            assert world.registry.registry.live == ("new@1", "other@1")
            for record in await world.votes():
                if record.members[0] == SUITE and record.revision >= 2:
                    assert ("new@1" in record.members) != ("new@2" in record.members)
            assert live._panel.ids == ["new@1", "other@1"]
            assert set(shadow._panel.ids) == {"new@2"}

    asyncio.run(run())


def test_restarts_in_each_phase(embedded_broker: Broker) -> None:
    """A host that crashes while a member is prepared, bakes, is live or has gone back goes on from there."""
    declared = suite("phases", member("new@1"), member("other@1", above=0.7))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared, session=1000) as world:
            hosts: dict[str, Any] = {}

            async def restart(*names: str) -> None:
                await asyncio.gather(*(world.crash(hosts[name]) for name in names if name in hosts))
                hosts.update(zip(names, await asyncio.gather(*map(world.follow, names)), strict=True))

            await restart("live", "shadow")

            world.traffic()
            await world.more(*hosts.values())
            id = await world.deploy("new@1")
            await restart("live")
            assert (await world.answered_of("new@1")).ready
            await world.write("swapped", "new@1", deployment=id)
            await restart("live", "shadow")
            await world.served()
            await restart("shadow")
            await world.more(*hosts.values(), n=100)
            await world.write("rolled_back", "new@1", deployment=id)
            await restart("live", "shadow")
            await world.served()
            await settle(world, *hosts.values())
            await world.check("new@1", "other@1")
            assert world.registry.registry.live == ("base@1",)

    asyncio.run(run())


def test_a_shadow_host_that_was_ahead_goes_back(embedded_broker: Broker) -> None:
    """With the live host far behind, a shadow host reads again from where the member left the OR, once."""
    declared = suite("ahead", member("new@1"))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared, session=1000) as world:
            live, shadow = await asyncio.gather(world.follow("live"), world.follow("shadow"))
            await world.send(100)
            await world.promote("new@1")
            await until(lambda: "new@1" not in shadow._panel.ids)
            await until(lambda: world.caught_up(live) and world.caught_up(shadow))
            await world.crash(live)
            await world.write("back_to_shadow", "new@1")
            await world.send(100)
            await until(lambda: shadow._committed == {0: 100, 1: 100})
            await world.crash(shadow)  # and it is not even there when the live host reports
            live = await world.follow("live")
            await world.served()
            shadow = await world.follow("shadow")
            await settle(world, live, shadow)
            await until(lambda: not any(shadow._roster.news(each) for each in shadow._owned.values()))
            await settle(world, live, shadow)
            await world.check("new@1")

    asyncio.run(run())


HARM = {
    "kills": ("import os\nos._exit(9)\n", "exit code 9"),
    "holds": ("import ctypes\nctypes.PyDLL(None).sleep(60)\n", "not loaded and checked within 2.5 s"),
    "fails": ("class M:\n    def load(self): raise OSError('no model')\n", "no model"),
    "breaks": ("class M:\n    def vote(self, batch): return 1\n", "answer"),
}


def test_what_cannot_be_used_is_refused(
    embedded_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the suite as it was, says why, and requests go on being answered meanwhile."""
    for name, (text, _) in HARM.items():
        (tmp_path / f"chorus_swap_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    declared = suite("refused", *(member(f"{name}@1", f"chorus_swap_{name}:M", above=None) for name in HARM))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared) as world:
            live = await world.follow("live")
            world.traffic()
            for name, (_, says) in HARM.items():
                live._roster._trial = 2.5 if name == "holds" else 20  # type: ignore[union-attr]
                id = await world.deploy(f"{name}@1")
                deployment = await world.answered_of(f"{name}@1")
                assert not deployment.ready
                assert says in deployment.refused["live-0"]
                await world.more(live)
                await world.write("aborted", f"{name}@1", deployment=id)
            await settle(world, live)
            assert await world.check() == {1: sum(world.sent)}
            assert live._panel.ids == ["base@1"]

    asyncio.run(run())


def test_a_restart_while_a_slow_member_bakes(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host answers at once as before the swap, for as long as the member takes, and then with it."""
    declared = suite(f"slow-{broker.name}", member("new@1"))

    async def run() -> None:
        async with Stage(broker.bootstrap_servers, declared, session=1000) as world:
            live, shadow = await asyncio.gather(world.follow("live"), world.follow("shadow"))
            world.traffic()
            id = await world.deploy("new@1")
            assert (await world.answered_of("new@1")).ready
            await world.write("swapped", "new@1", deployment=id)
            await world.served()
            await world.more(live, shadow)
            gate, try_it = asyncio.Event(), deploying.try_member

            async def later(*asked: Any, **more: Any) -> Any:
                await gate.wait()
                return await try_it(*asked, **more)

            monkeypatch.setattr(deploying, "try_member", later)
            await world.crash(live)
            live = await world.follow("live")
            second = await world.follow("live")  # nor is another one held up
            await until(lambda: len(live._owned) == len(second._owned) == 1)
            assert live._roster.ids == second._roster.ids == ("base@1",)
            before = sum(world.positions())
            await until(lambda: sum(world.positions()) >= before + 200)
            assert live._roster.ids == second._roster.ids == ("base@1",)
            gate.set()
            await until(lambda: live._roster.ids == second._roster.ids == ("base@1", "new@1"))
            await world.write("promoted", "new@1", deployment=id)
            before = sum(world.positions())
            await until(lambda: sum(world.positions()) >= before + 200)
            await second.stop()
            await until(lambda: len(live._owned) == 2)
            await settle(world, live)
            await until(lambda: world.caught_up(shadow))
            await until(lambda: not any(shadow._roster.news(each) for each in shadow._owned.values()))
            await until(lambda: world.caught_up(shadow))
            assert sorted(await world.check("new@1")) == [1, 2]

    asyncio.run(run())


def test_broken_while_baking(embedded_broker: Broker) -> None:
    """A member that passes its trial and then fails is refused once while it bakes; it goes out by a swap."""
    loader = "tests.members.voters_for_tests:Returns"
    text = "params = { expression = \"1 if {'A', 'B'} & set(batch['c']) else batch['wind'] > 0.5\" }"
    declared = suite("baking", member("bad@1", loader, above=None, more=text))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared) as world:
            live = await world.follow("live")
            id = await world.deploy("bad@1")  # nothing was decoded yet that would show it
            assert (await world.answered_of("bad@1")).ready
            await world.write("swapped", "bad@1", deployment=id)
            await world.served()
            world.traffic()
            deployment = await world.answered_of("bad@1")
            await until(lambda: bool(world.registry.registry.deployment.refused))  # type: ignore[union-attr]
            deployment = world.registry.registry.deployment
            assert "suspended while baking: vote is of dtype" in deployment.refused["live-0"]  # type: ignore[union-attr]
            await world.write("rolled_back", "bad@1", deployment=id)
            await world.served()
            await world.more(live)
            await settle(world, live)
            await world.check()
            refusals = [each for each in world.registry.recorded if each.event.kind == "refused"]
            assert len(refusals) == 1

    asyncio.run(run())


def test_a_swap_that_cannot_be_made(embedded_broker: Broker) -> None:
    """Swapped in since another host was ready, but not loadable here: this host refuses and stays."""
    loader = "tests.members.voters_for_tests:Switch"
    declared = suite("stay", member("odd@1", loader, above=0.5))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared) as world:
            SWITCH["broken"] = 1
            live, swapped = await world.follow("live"), asyncio.Event()

            async def tried(_: Any) -> str:
                await swapped.wait()
                return ""

            live._roster._tried = tried  # type: ignore[union-attr, method-assign]
            world.traffic()
            id = await world.deploy("odd@1")
            await world.write("ready", "odd@1", deployment=id)
            await world.write("swapped", "odd@1", deployment=id)
            swapped.set()
            await until(lambda: bool(world.registry.registry.deployment.refused))  # type: ignore[union-attr]
            await world.more(live)
            assert live._roster.ids == ("base@1",)
            await world.write("rolled_back", "odd@1", deployment=id)
            await world.served()
            await world.more(live)
            await settle(world, live)
            assert sorted(await world.check()) == [1, 3]

    try:
        asyncio.run(run())
    finally:
        SWITCH["broken"] = 0


def test_shares_and_newcomers(embedded_broker: Broker) -> None:
    """Shadow hosts share candidates by number; one without any reads on, and a newcomer starts from now."""
    declared = suite("shares", member("one@1"))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared) as world:
            none, one = await world.follow("shadow", share=(0, 2)), await world.follow("shadow", share=(1, 2))
            await world.send(100)
            await settle(world, none, one)
            assert none._panel.ids == []
            await until(lambda: none._committed == {0: 50, 1: 50})
            spec = declared.members["one@1"].model_copy(update={"version": "2"})
            await world.write("added", "one@2", spec=spec)
            await until(lambda: none._panel.ids == ["one@2"])
            await world.send(100)
            await settle(world, none, one)
            votes = [v for v in await world.votes() if v.end > v.start]
            assert {tuple(v.members) for v in votes} == {("one@1",), ("one@2",)}
            assert min(v.start for v in votes if v.members == ["one@2"]) == 50
            await world.write("retired", "one@1")
            await until(lambda: one._panel.ids == [])

    asyncio.run(run())


def test_a_member_that_is_named_is_handed_over_as_well(broker: Broker) -> None:
    """A shadow host of one member follows the registry: it asks nobody while the member is live, and takes it
    up again after that. It may be one that was added, and not yet when the host was made."""
    declared = suite(f"named-{broker.name}", member("other@1"))

    async def run() -> None:
        async with Stage(broker.bootstrap_servers, declared, session=1000) as world:
            spec = declared.members["other@1"].model_copy(update={"name": "new"})
            await world.write("added", "new@1", spec=spec)
            live, shadow = await asyncio.gather(
                world.follow("live"), world.follow("shadow", members=["new@1"])
            )
            assert shadow.group == f"{declared.name}.shadow.new@1"
            assert shadow._panel.ids == ["new@1"]
            world.traffic()
            await world.more(live, shadow)
            await world.promote("new@1")
            await until(lambda: shadow._panel.ids == [])
            low = {p: owned.position for p, owned in shadow._owned.items()}
            await world.more(live, shadow)
            await world.crash(shadow)
            shadow = await world.follow("shadow", members=["new@1"])  # one that is live is no reason to end
            await world.more(live, shadow)
            assert shadow._panel.ids == []
            high = {p: min(o.done, live._owned[p].done) for p, o in shadow._owned.items()}
            await world.write("back_to_shadow", "new@1")
            await world.served()
            await until(lambda: shadow._panel.ids == ["new@1"])
            await world.more(live, shadow)
            await settle(world, live, shadow)
            await until(lambda: not any(shadow._roster.news(each) for each in shadow._owned.values()))
            await settle(world, live, shadow)
            assert sorted(await world.check("new@1")) == [1, 2, 3]
            asked = [v for v in await world.votes() if v.stage == "shadow"]
            assert {name for v in asked for name in v.members} == {"new@1"}
            for v in asked:
                assert v.end == v.start or not low[v.partition] <= v.start < high[v.partition]

    asyncio.run(run())


def test_a_restart_while_a_member_bakes_that_has_gone_bad(
    embedded_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again before the host serves it: refused, the host answers as before the swap."""
    module = tmp_path / "chorus_gone_bad.py"
    module.write_text("class M:\n    def vote(self, batch): return batch['wind'] > 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    declared = suite("gone-bad", member("bad@1", "chorus_gone_bad:M", above=None))

    async def run() -> None:
        async with Stage(embedded_broker.bootstrap_servers, declared, session=1000) as world:
            live = await world.follow("live")
            id = await world.deploy("bad@1")
            assert (await world.answered_of("bad@1")).ready
            await world.write("swapped", "bad@1", deployment=id)
            await world.served()
            await world.send(100)
            await settle(world, live)
            await live.stop()
            module.write_text("import os\nos._exit(9)\n")
            live = await world.follow("live")
            assert live._roster.ids == ("base@1",)
            await until(lambda: bool(world.registry.registry.deployment.refused))  # type: ignore[union-attr]
            await world.send(100)
            await settle(world, live)
            await world.write("rolled_back", "bad@1", deployment=id)
            await world.served()
            await world.send(100)
            await settle(world, live)
            assert await world.check() == {1: 100, 2: 100, 3: 100}

    asyncio.run(run())
