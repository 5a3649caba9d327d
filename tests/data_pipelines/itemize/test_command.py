"""The command line: what it writes, tells and ends with."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.data_pipelines.itemize.chat_server import ChatServer, fails, says

ROOT = pathlib.Path(__file__).parents[3]
SECRET = "Xanthous lesion of the spleen"   # never told


def _command(*arguments) -> list[str]:
  return [sys.executable, "-m", "data_pipelines.itemize",
          *map(str, arguments)]


def _run(*arguments) -> subprocess.CompletedProcess:
  return subprocess.run(_command(*arguments), capture_output=True, text=True,
                        check=False, cwd=ROOT)


def _report(n: int) -> dict:
  return {"id": f"r{n}", "sections": {"findings": (
      f"There is a {n + 3} mm nodule in the left lower lobe. The heart is "
      "normal in size. No pleural effusion is seen.")}}


@pytest.fixture(name="x")
def _x(tmp_path) -> pathlib.Path:
  path = tmp_path / "x.jsonl"
  path.write_text("".join(f"{json.dumps(_report(n))}\n" for n in range(6)))
  return path


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_from_reports_to_items_page_and_training_file(tmp_path, x):
  y, page = tmp_path / "y.jsonl", tmp_path / "page.html"
  done = _run("--recipe", "ctrate_abnormal", "--in", x, "--out", y,
              "--workers=1", "--limit=5")
  assert done.returncode == 0, done.stderr
  assert "5 records, 5 items, 0 normal." in done.stdout
  assert "itemize audit" in done.stdout
  assert [v["items"][0]["text"] for v in _lines(y)] == [
      f"There is a {n + 3} mm nodule in the left lower lobe." for n in range(5)]
  done = _run("audit", y, f"--out={page}", f"--against={y}", "--draw=2")
  assert done.returncode == 0, done.stderr
  assert "kappa 1.000" in done.stdout and "stay in the house" in done.stdout
  assert page.read_text().count("<mark>") == 2
  done = _run("export", y, "--to=itemizedclip", f"--out={tmp_path / 'e.json'}")
  assert done.returncode == 0, done.stderr
  assert len(json.loads((tmp_path / "e.json").read_text())) == 5


def _keeps_the_nodule(request):
  keep = [n for n, line in enumerate(request.lines, 1) if "nodule" in line]
  return says({"keep": keep})


def _chat(x, y, server, *more):
  return ("--recipe=ctrate_abnormal", f"--in={x}", f"--out={y}",
          "--backend=chat", f"--base_url={server.url}", "--model=m", *more)


def test_the_chat_back_end_costs_nothing_twice(tmp_path, x):
  y, z = tmp_path / "y.jsonl", tmp_path / "z.jsonl"
  cache = f"--cache={tmp_path / 'answers'}"
  prices = ("--price-in=1", "--price-out=2")
  with ChatServer(_keeps_the_nodule, by_request=True) as server:
    done = _run(*_chat(x, y, server, cache, *prices, "--dry-run"))
    assert done.returncode == 0, done.stderr
    assert "6 questions about 6 records" in done.stdout
    assert not server.requests
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]
    done = _run(*_chat(x, y, server, cache, *prices, "--max_cost=0.001",
                       "--max_output_tokens=50"))   # enough for two of six
    assert done.returncode == 2 and "max_cost" in done.stderr
    assert not server.requests and not y.exists()
    done = _run(*_chat(x, y, server, cache, *prices, "--max_cost=10"))
    assert done.returncode == 0, done.stderr
    assert len(server.requests) == 6 and "6 requests, cost" in done.stdout
    done = _run(*_chat(x, z, server, cache, "--concurrency=1"))
    assert done.returncode == 0 and len(server.requests) == 6
  assert y.read_bytes() == z.read_bytes()
  made = _lines(y)
  assert {v["backend"] for v in made} == {"chat:m"}
  assert made[2]["items"][0]["text"].startswith("There is a 5 mm nodule")
  assert made[2]["tokens"] == {"in": 100, "out": 10}


def test_useless_answers_end_with_code_1_and_the_rules_items(tmp_path, x):
  y = tmp_path / "y.jsonl"
  with ChatServer(says("I would rather not.")) as server:
    done = _run(*_chat(x, y, server))
  assert done.returncode == 1
  assert "100.00% of the records" in done.stderr
  assert "--max_parse_failures=0.005" in done.stderr
  assert all("fallback" in v["warnings"] and len(v["items"]) == 1
             for v in _lines(y))
  with ChatServer(says("No.")) as server:   # all is there; nothing is asked
    done = _run(*_chat(x, y, server, "--max_parse_failures=1"))
    assert done.returncode == 0 and not server.requests


def test_a_run_that_is_killed_goes_on(tmp_path, x):
  """By SIGKILL, with questions under way."""
  y, z = tmp_path / "y.jsonl", tmp_path / "z.jsonl"

  def slow(request):
    time.sleep(0.2)
    return _keeps_the_nodule(request)

  with ChatServer(slow, by_request=True) as server:
    assert _run(*_chat(x, z, server)).returncode == 0
    asked = len(server.requests)
    process = subprocess.Popen(
        _command(*_chat(x, y, server, "--concurrency=1")), cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(server.requests) < asked + 4 and process.poll() is None:
      time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(_lines(tmp_path / "y.jsonl.partial"))
    assert 1 <= kept < 6 and not y.exists()
    before = len(server.requests)
    assert _run(*_chat(x, y, server)).returncode == 0
    assert len(server.requests) - before <= 6 - kept
  assert y.read_bytes() == z.read_bytes()


@pytest.mark.parametrize("arguments, said", [
    ((), "--in is missing: JSON Lines of records."),
    (("--in=x",), "--out is missing"),
    (("--in=x", "--out=y"), "--recipe is missing: One of ctrate_abnormal"),
    (("--in=x", "--out=y", "--recipe=all"), "no recipe 'all'; use one of"),
    (("--in=none", "--out=y", "--recipe=dedup"), "none cannot be read"),
    (("--in=x", "--out=y", "--recipe=dedup", "--backend=llm"),
     "--backend=llm is none of rules, chat"),
    (("--in=x", "--out=y", "--recipe=dedup", "--model=m"),
     "--model is of the chat back-end"),
    (("--in=x", "--out=y", "--recipe=dedup", "--dry_run"),
     "--dry_run is of the chat back-end"),
    (("--in=x", "--out=y", "--recipe=dedup", "--backend=chat"),
     "--base_url is missing"),
    (("--recipes=dedup",), "Unknown command line flag 'recipes'"),
    (("--limit=0",), "All flags: --help."),
    (("x.jsonl",), "'x.jsonl' belongs to no flag"),
    (("audit",), "audit wants one file of results"),
    (("audit", "none"), "none cannot be read"),
    (("audit", "x", "--recipe=dedup"), "Unknown command line flag 'recipe'"),
    (("export", "x"), "--out is missing"),
    (("export", "x", "--out=y"), "--to is missing: One of itemizedclip"),
    (("export", "a", "b", "--out=y"), "export wants one file of results")])
def test_mistakes_are_told_in_one_line(arguments, said):
  done = _run(*arguments)
  assert done.returncode == 2 and not done.stdout
  assert said in done.stderr and "Traceback" not in done.stderr
  assert done.stderr.count("\n") == 1
  assert done.stderr.startswith("data_pipelines.itemize: ")


def test_a_bad_line_is_told_by_line_and_id(tmp_path, x):
  x.write_text(x.read_text() + json.dumps(_report(2)) + "\n{" + SECRET)
  done = _run("--recipe=ctrate_abnormal", f"--in={x}",
              f"--out={tmp_path / 'y'}")
  assert done.returncode == 2
  assert "Record 'r2' (line 7 of x.jsonl) has the id" in done.stderr
  assert "Line 8 of x.jsonl is not JSON" in done.stderr
  assert SECRET not in done.stderr + done.stdout


def test_a_place_that_cannot_be_written_is_told(tmp_path, x):
  (tmp_path / "file").write_text("")
  out = tmp_path / "file" / "y"
  done = _run(f"--in={x}", f"--out={out}", "--recipe=triplet")
  assert done.returncode == 2 and "Traceback" not in done.stderr
  assert str(tmp_path / "file") in done.stderr


def test_reports_do_not_leave_the_house_unasked(tmp_path, x):
  done = _run(f"--in={x}", f"--out={tmp_path / 'y'}", "--recipe=dedup",
              "--backend=chat", "--model=m",
              "--base_url=https://api.example.com/v1")
  assert done.returncode == 2 and "not on this machine" in done.stderr


def test_a_server_that_answers_nobody_ends_the_run(tmp_path, x):
  with ChatServer(fails(401, SECRET)) as server:
    done = _run(*_chat(x, tmp_path / "y", server))
  assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize("command, words", [
    ((), ("--recipe=ctrate_abnormal", "verify2", "--[no]dry_run", "--lexicon",
          "Exit code")),
    (("audit",), ("--against", "--draw", "--max_unsupported")),
    (("export",), ("--layout", "--into", "itemizedclip, fvlm, medfilip"))])
def test_help_teaches(command, words):
  done = _run(*command, "--help")
  assert "Traceback" not in done.stderr
  assert all(word in done.stdout for word in words), done.stdout
  assert ("--recipe:" in done.stdout) == (not command)


def test_the_script_knows_the_verb():
  script = (ROOT / "run.sh").read_text()
  assert "  itemize ...    " in script and "|itemize" in script
