"""What may be sent: where to, how fast and at what cost."""

import concurrent.futures
import json
import threading
import time

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.chat import budget as budgets
from data_pipelines.itemize.chat import hosts
from data_pipelines.itemize.chat import limits
from data_pipelines.itemize.chat.budget import Budget, CostError, Estimate
from data_pipelines.itemize.chat.client import Client
from data_pipelines.itemize.chat.options import Options
from tests.data_pipelines.itemize import chat_server
from tests.data_pipelines.itemize.chat_asked import MESSAGES, client
from tests.data_pipelines.itemize.chat_server import ChatServer, FakeTime
from tests.data_pipelines.itemize.chat_server import fails, says


def test_all_threads_wait_when_a_server_asks_one_of_them():
  fake = FakeTime()
  limiter = limits.Limiter(None, None, clock=fake.clock, sleep=fake.sleep)
  limiter.pause(9)
  limiter.wait(1)
  assert sum(fake.slept) == 9


@pytest.mark.parametrize("url", [
    "http://localhost:8000/v1", "http://LOCALHOST/v1", "http://127.0.0.1/v1",
    "http://127.9.9.9:1/v1", "http://[::1]:8000/v1", "https://10.1.2.3/v1",
    "http://172.16.0.1", "http://172.31.255.255", "http://192.168.0.7/v1",
    "http://[fd00::1]/v1", "http://[::ffff:127.0.0.1]/v1"])
def test_addresses_in_the_house_are_taken(url):
  hosts.check(url, ())


@pytest.mark.parametrize("url", [
    "https://api.example.org/v1", "http://8.8.8.8/v1", "http://172.32.0.1",
    "http://localhost.example.org/v1", "http://127.0.0.1.example.org/v1",
    "http://[::ffff:8.8.8.8]/v1", "http://169.254.169.254", "http://2130706433",
    "http://0x7f.1/v1", "http://gpu/v1", "http://192.169.0.1", "http://0/"])
def test_addresses_outside_are_refused(url):
  with pytest.raises(PrepareError, match="--allow_host="):
    hosts.check(url, ("other.example.org",))


@pytest.mark.parametrize("url", [
    "", "localhost:8000", "ftp://localhost/v1", "http://", "file:///v1",
    "http://localhost@api.example.org/v1", "http://user:pw@localhost/v1",
    "http://localhost\\@api.example.org/", "http://localhost:port/v1",
    "http://localhost/v1?key=sk", "http://[::1/v1", "http://local host/v1",
    "http://localhost%2eexample.org/v1", "http://\uff4cocalhost/v1"])
def test_addresses_that_are_none_are_refused(url):
  with pytest.raises(PrepareError, match="base URL"):
    hosts.check(url, ("api.example.org",))


def test_a_key_does_not_belong_into_the_address():
  for url in ("http://user:pw@localhost/v1", "http://localhost/v1?key=pw"):
    with pytest.raises(PrepareError, match="environment variable") as caught:
      hosts.check(url, ())
    assert "pw" not in str(caught.value)


def test_a_host_is_allowed_by_its_whole_name():
  hosts.check("https://API.example.org/v1", ("api.Example.org",))
  with pytest.raises(PrepareError):
    hosts.check("https://api.example.org.evil.net/v1", ("api.example.org",))
  with pytest.raises(PrepareError, match="reports would leave the house"):
    Client(Options(base_url="https://api.example.org/v1", model="m"),
           Budget(0, 0))


@pytest.mark.parametrize("apart", [0, 2, 7])
def test_requests_a_minute(apart):
  fake = FakeTime()
  limiter = limits.Limiter(10, None, clock=fake.clock, sleep=fake.sleep)
  times = []
  for _ in range(35):
    limiter.wait(1)
    times.append(fake.now)
    fake.now += apart  # what the request takes
  for start in times:  # in no minute, wherever it begins
    assert sum(start <= t < start + 60 for t in times) <= 10
  assert times[-1] - times[0] == pytest.approx({0: 180, 2: 188, 7: 238}[apart])


def test_tokens_a_minute():
  fake = FakeTime()
  limiter = limits.Limiter(None, 1000, clock=fake.clock, sleep=fake.sleep)
  times = []
  for tokens in (400, 400, 400, 5000, 10):
    limiter.wait(tokens)
    times.append(fake.now - 1000)
  # The third waits for the first; the giant until nothing else counts.
  assert times == [0, 0, 60, 120, 180]


def test_limits_hold_for_all_threads_together():
  fake = FakeTime()
  lock = threading.Lock()

  def sleep(seconds):
    with lock:
      fake.sleep(seconds)
  limiter = limits.Limiter(5, None, clock=fake.clock, sleep=sleep)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: limiter.wait(1), range(20)))
  assert fake.now - 1000 >= 180


def test_the_cost_of_a_run_is_told_before():
  # 24 000 reports of (350 + 350 in, 40 out) at 0.15 and 0.60 a million.
  budget = Budget(0.15, 0.60, 3.0)
  estimate = Estimate(24_000, 24_000, 24_000 * 700, 24_000 * 40)
  assert budget.expected(estimate) == pytest.approx(3.096)
  with pytest.raises(CostError, match="24000 questions .* 3.096, more than"):
    budget.check(estimate)
  Budget(0.15, 0.60, 3.2).check(estimate)
  with pytest.raises(CostError):
    Budget(0.15, 0.60, 3.2, retry_rate=0.05).check(estimate)
  Budget(0.15, 0.60).check(estimate)


@pytest.mark.parametrize("options, told", [
    ({"max_cost": 3.0}, "nothing has a price"),
    ({"timeout": 0}, "timeout is 0, want a number > 0"),
    ({"concurrency": 0}, "concurrency is 0, want a number >= 1"),
    ({"price_in": float("nan")}, "price_in is nan"),
    ({"temperature": -1}, "temperature is -1"), ({"model": ""}, "model")])
def test_settings_that_make_no_sense_are_told(options, told):
  with pytest.raises(PrepareError, match=told):
    Options(**{"base_url": "http://localhost/v1", "model": "m"} | options)


def test_the_client_keeps_the_limits():
  fake = FakeTime()
  with ChatServer(says("Yes.")) as server:
    asked = client(server, fake=fake, requests_per_minute=2,
                   tokens_per_minute=1e6)
    for _ in range(5):
      asked.complete(MESSAGES)
  assert fake.now - 1000 == pytest.approx(120)


def test_what_is_spent_is_counted():
  budget = Budget(2.0, 10.0)
  with ChatServer(says("Yes.", usage=(500_000, 100_000))) as server:
    client(server, budget=budget).complete(MESSAGES)
  assert budget.spent == pytest.approx(0.5 * 2 + 0.1 * 10)


@pytest.mark.parametrize("usage", [
    None, (0, 0), (-5, -5), ("9", "9"), (True, 1.5), (1 << 50, 1 << 50)])
def test_a_server_that_does_not_count_does_not_make_it_free(usage):
  budget = Budget(1e6, 1e6)
  reply = {"choices": [{"message": {"content": "12345678"}}]}
  if usage:
    reply["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage))
  with ChatServer(chat_server.sends(json.dumps(reply))) as server:
    answer = client(server, budget=budget).complete(MESSAGES)
  tokens_in = budgets.estimate_tokens(MESSAGES)
  assert answer.tokens_in == tokens_in and budget.spent >= tokens_in
  assert answer.tokens_out in (1, 2)


def test_the_ceiling_holds_with_many_requests_under_way():
  # 110 tokens an answer at 1 each; an answer could be 10 tokens more.
  budget = Budget(1e6, 1e6, 1000)
  def behave(request):
    time.sleep(0.01)
    return says("Yes.", usage=(100, 10))
  with ChatServer(behave, by_request=True) as server:
    asked = client(server, budget=budget, concurrency=8, max_output_tokens=20)
    def ask(_):
      try:
        asked.complete([{"role": "user", "content": "x" * 4 * 96}])
      except CostError:
        return "stopped"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      results = list(pool.map(ask, range(40)))
  assert results.count("stopped") == 40 - len(server.requests)
  assert budget.spent == 110 * len(server.requests) <= 1000
  assert len(server.requests) >= 8


def test_lost_answers_count_as_paid_and_unreachable_servers_as_free():
  budget = Budget(1e6, 1e6)
  with ChatServer([chat_server.hangs, fails(500), says("Yes.")]) as server:
    client(server, budget=budget, timeout=0.1, max_output_tokens=1000
           ).complete(MESSAGES)
  tokens_in = budgets.estimate_tokens(MESSAGES)
  assert budget.spent == tokens_in + 1000 + 100 + 10
  budget = Budget(1e6, 1e6)
  with pytest.raises(PrepareError):
    client(server, budget=budget).complete(MESSAGES)
  assert budget.spent == 0
