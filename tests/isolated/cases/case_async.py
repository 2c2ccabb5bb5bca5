"""Coroutines as tests, with pytest-asyncio."""

import asyncio

import pytest
import pytest_asyncio

import helper


@pytest_asyncio.fixture
async def prepared():
    helper.note("async up")
    await asyncio.sleep(0)
    yield "prepared"
    helper.note("async down")


@pytest_asyncio.fixture
async def broken():
    raise ValueError("async set-up")


@pytest_asyncio.fixture
async def broken_late():
    yield
    raise ValueError("async tear-down")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def of_the_module():
    helper.note("async module up")
    yield asyncio.get_running_loop()
    helper.note("async module down")


@pytest.mark.asyncio
async def test_passed(prepared):
    await asyncio.sleep(0)
    assert prepared == "prepared"


@pytest.mark.asyncio
async def test_failed(prepared):
    await asyncio.sleep(0)
    assert prepared == "other"


async def _inner():
    await asyncio.sleep(0)
    helper.deep(1)


@pytest.mark.asyncio
async def test_task():
    await asyncio.gather(_inner(), asyncio.sleep(0.001))


@pytest.mark.asyncio
async def test_skipped():
    pytest.skip("inside")


@pytest.mark.asyncio
@pytest.mark.xfail(reason="async")
async def test_xfailed():
    raise AssertionError


@pytest.mark.asyncio
async def test_broken(broken):
    pass


@pytest.mark.asyncio
async def test_broken_late(broken_late):
    helper.speak("async")


@pytest.mark.asyncio
async def test_timeout():
    await asyncio.wait_for(asyncio.sleep(10), 0.01)


@pytest.mark.asyncio(loop_scope="module")
async def test_module_loop(of_the_module):
    assert asyncio.get_running_loop() is of_the_module


@pytest.mark.asyncio(loop_scope="module")
async def test_module_loop_again(of_the_module):
    assert asyncio.get_running_loop() is of_the_module


@pytest.mark.asyncio
@pytest.mark.parametrize("seconds", [0, 0.001])
async def test_parameters(seconds):
    await asyncio.sleep(seconds)


@pytest.mark.asyncio
async def test_network_of_its_own():
    async def served(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"echo\n")
        assert await reader.readline() == b"echo\n"
        writer.close()


@pytest.mark.asyncio
class TestClass:
    async def test_method(self):
        assert await asyncio.sleep(0, 1) == 2
    async def test_passed(self):
        pass


async def test_not_marked():
    pass
