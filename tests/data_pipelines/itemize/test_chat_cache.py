"""Answers on disk: kept once, shared, whole after a kill."""

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.chat import cache as caches
from data_pipelines.itemize.chat.cache import Answer, Cache

ROOT = pathlib.Path(__file__).parents[3]
YES = Answer("Ja \u00e4\u4e2d\x00\U0001f600", "stop", 100, 10)
ASKED = dict(recipe="dedup", version="1", template="t", model="m",
             parameters={"temperature": 0, "seed": 0},
             messages=[{"role": "user", "content": "?"}])


def never():
  raise AssertionError("asked again")


def test_an_answer_is_asked_for_once_and_kept(tmp_path):
  cache = Cache(tmp_path / "deep" / "answers.db")
  assert cache.get("k") is None
  assert cache.answer("k", lambda: YES) == YES
  assert cache.answer("k", never) == YES
  cache.close()
  again = Cache(tmp_path / "deep" / "answers.db")
  assert again.get("k") == YES and again.get("other") is None


@pytest.mark.parametrize("name, value", [
    ("recipe", "verify2"), ("version", "2"), ("template", "u"), ("model", "n"),
    ("parameters", {"temperature": 0, "seed": 1}),
    ("messages", [{"role": "user", "content": "!"}])])
def test_the_key_depends_on_all_that_an_answer_depends_on(name, value):
  assert caches.key(**ASKED) == caches.key(**ASKED)
  assert caches.key(**ASKED | {name: value}) != caches.key(**ASKED)


def test_the_key_does_not_depend_on_the_order_of_settings():
  other = ASKED | {"parameters": {"seed": 0, "temperature": 0}}
  assert caches.key(**other) == caches.key(**ASKED)


def test_threads_that_want_the_same_ask_once():
  cache, asked = Cache(":memory:"), []
  begin = threading.Barrier(8)

  def ask():
    asked.append(1)
    time.sleep(0.05)
    return YES

  def want(_):
    begin.wait()
    return cache.answer("k", ask)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(want, range(8)))
  assert answers == [YES] * 8 and len(asked) == 1


def test_threads_that_want_others_do_not_wait():
  cache, begin = Cache(":memory:"), threading.Barrier(4, timeout=5)

  def ask():
    begin.wait()  # all four ask at the same time, or none goes on
    return YES
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(lambda n: cache.answer(f"k{n}", ask), range(4)))


def test_what_went_wrong_is_told_to_all_and_kept_for_none():
  cache = Cache(":memory:")

  def fail():
    raise ConnectionError("away")
  for _ in range(2):
    with pytest.raises(ConnectionError):
      cache.answer("k", fail)
  assert cache.answer("k", lambda: YES) == YES


def test_the_first_of_two_processes_is_right(tmp_path):
  one, two = Cache(tmp_path / "a.db"), Cache(tmp_path / "a.db")

  def ask():
    two.answer("k", lambda: YES)  # the other one was faster
    return Answer("No.", "stop", 1, 1)
  assert one.answer("k", ask) == YES
  assert one.answer("k", never) == YES


def test_only_the_owner_can_read_it(tmp_path):
  Cache(tmp_path / "a.db").answer("k", lambda: YES)
  for path in tmp_path.iterdir():
    assert path.stat().st_mode & 0o077 == 0, path.name


@pytest.mark.parametrize("content", [b"id,text\n1,nodule\n" * 99, b"\0" * 4096])
def test_another_file_is_not_touched(tmp_path, content):
  path = tmp_path / "reports.csv"
  path.write_bytes(content)
  with pytest.raises(PrepareError, match="reports.csv cannot be used") as error:
    Cache(path)
  assert path.read_bytes() == content and "nodule" not in str(error.value)


def test_a_cache_of_a_later_version_is_not_touched(tmp_path):
  import sqlite3
  with sqlite3.connect(tmp_path / "a.db") as table:
    table.execute("PRAGMA user_version=99")
  with pytest.raises(PrepareError, match="version 99"):
    Cache(tmp_path / "a.db")


def test_a_place_that_cannot_be_written_is_told(tmp_path):
  with pytest.raises(PrepareError, match="cannot be used"):
    Cache(tmp_path)


def test_what_was_kept_survives_a_kill(tmp_path):
  code = f"""if True:
    import time
    from data_pipelines.itemize.chat.cache import Answer, Cache
    cache = Cache({str(tmp_path / "a.db")!r})
    for n in range(10_000):
      cache.answer(f"k{{n}}", lambda: Answer(str(n), "stop", n, n))
      if n == 50:
        print("go", flush=True)
  """
  with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT,
                        stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
  cache = Cache(tmp_path / "a.db")
  assert [cache.get(f"k{n}") for n in range(50)] == [
      Answer(str(n), "stop", n, n) for n in range(50)]
