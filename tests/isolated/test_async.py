"""pytest-asyncio and anyio: coroutines, their fixtures and their loops, of whatever scope, are in a jail what they are outside."""

from __future__ import annotations

import pytest

TESTS = """
import asyncio, contextvars, os
import pytest, pytest_asyncio

variable = contextvars.ContextVar("variable", default="nothing")

@pytest_asyncio.fixture
async def own():
    await asyncio.sleep(0)
    yield asyncio.get_running_loop()
    await asyncio.sleep(0)
    print("own down")
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    # What a loop does in other threads: names, files.
    yield await asyncio.to_thread(lambda: ["shared"])
    await asyncio.to_thread(print, "shared down")
@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def queue():
    queue = asyncio.Queue()
    await queue.put("first")
    return queue
@pytest_asyncio.fixture
async def failing():
    await asyncio.sleep(0)
    raise ValueError("in set-up")
@pytest_asyncio.fixture
async def failing_last():
    yield
    raise ValueError("in tear-down")

@pytest.mark.asyncio
async def test_function(own): assert asyncio.get_running_loop() is own
@pytest.mark.asyncio
async def test_fails(own):
    await asyncio.sleep(0)
    assert own is None
@pytest.mark.asyncio
async def test_failing_setup(failing): pass
@pytest.mark.asyncio
async def test_failing_teardown(failing_last): pass
@pytest.mark.asyncio(loop_scope="module")
async def test_module(shared): assert await asyncio.to_thread(lambda: shared) == ["shared"]
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", [1, 2])
async def test_module_again(shared, number):
    tasks = [asyncio.create_task(asyncio.sleep(0, one)) for one in range(5)]
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
    reader, writer = asyncio.Queue(), asyncio.Queue()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    server.close()
@pytest.mark.asyncio(loop_scope="session")
async def test_session(queue): assert await queue.get() == "first"
@pytest.mark.asyncio(loop_scope="class")
class TestClass:
    loop = None
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    async def of_class(self): return asyncio.get_running_loop()
    async def test_first(self, of_class): assert asyncio.get_running_loop() is of_class
    async def test_next(self, of_class): assert asyncio.get_running_loop() is of_class
@pytest.mark.asyncio
async def test_context(): variable.set("something")
@pytest.mark.asyncio
async def test_context_is_its_own(): assert variable.get() == "nothing"
@pytest.mark.asyncio
async def test_subprocess():
    process = await asyncio.create_subprocess_exec("/bin/echo", "said", stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"said\\n"
@pytest.mark.asyncio
@pytest.mark.xfail
async def test_expected(): assert 0
@pytest.mark.asyncio
async def test_skips(): pytest.skip("for a reason")
@pytest.mark.asyncio
async def test_cancelled():
    with pytest.raises(asyncio.TimeoutError): await asyncio.wait_for(asyncio.sleep(1000), 0.01)
def test_no_coroutine(): pass
"""
AUTO = TESTS.replace("@pytest.mark.asyncio\n", "").replace("@pytest_asyncio.fixture\n", "@pytest.fixture\n")
ANYIO = """
import anyio, os, pytest
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request): return request.param
@pytest.fixture
async def own():
    await anyio.sleep(0)
    yield 3
    await anyio.sleep(0)
@pytest.fixture(scope="module")
async def shared(anyio_backend):
    yield await anyio.to_thread.run_sync(lambda: 3)
    print("shared down")
async def test_own(own, anyio_backend_name): assert own == 3 and anyio_backend_name in ("asyncio", "trio")
async def test_fails(own): assert own == 4
async def test_tasks(anyio_backend):
    async with anyio.create_task_group() as group: group.start_soon(anyio.sleep, 0)
async def test_thread(shared): assert await anyio.to_thread.run_sync(lambda: shared) == 3
"""


@pytest.mark.parametrize(("mode", "text"), [("strict", TESTS), ("auto", AUTO)], ids=["strict", "auto"])
def test_asyncio(inner: pytest.Pytester, plain_and_jailed, mode: str, text: str) -> None:
    inner.makepyfile(test_it=text)
    inner.makeini(f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n")
    _, jailed = plain_and_jailed("-p", "asyncio", "-rA")
    jailed.result.assert_outcomes(passed=13, failed=1, errors=2, xfailed=1, skipped=1)


def test_anyio(inner: pytest.Pytester, plain_and_jailed) -> None:
    inner.makepyfile(test_it=ANYIO)
    _, jailed = plain_and_jailed("-p", "anyio", "-rA")
    jailed.result.assert_outcomes(passed=6, failed=2)


def test_a_pool_of_a_fixture_works_in_each_test(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import os, threading, pytest
        from concurrent.futures import ThreadPoolExecutor
        @pytest.fixture(scope="session")
        def pool():
            with ThreadPoolExecutor(2) as pool:
                assert list(pool.map(str, range(5))) == list("01234")
                yield pool
            assert not any(thread.is_alive() for thread in pool._threads)
        @pytest.mark.parametrize("number", range(2))
        def test_it(pool, number):
            assert threading.active_count() == 1
            assert list(pool.map(lambda number: (number, os.getpid()), range(5))) == [(number, 2) for number in range(5)]
        def test_shutdown(pool): pool.shutdown(); assert threading.active_count() == 1
        @pytest.mark.isolated(False)
        def test_outside(pool): assert pool.submit(os.getpid).result(10) == os.getpid()
    """)
    inner.runpytest_subprocess("--nsjail", timeout=60).assert_outcomes(passed=4)
