"""The client of a chat server that fails, lies and gossips."""

import concurrent.futures
import email.utils
import logging
import sys
import time

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.chat.budget import Budget
from data_pipelines.itemize.chat.client import MAX_UNANSWERED, Client
from data_pipelines.itemize.chat.client import RETRIES
from data_pipelines.itemize.chat.options import Options
from data_pipelines.itemize.chat.replies import Refused, TryAgain, Unanswered
from data_pipelines.itemize.chat.replies import retry_after
from tests.data_pipelines.itemize import chat_server
from tests.data_pipelines.itemize.chat_asked import MESSAGES, client
from tests.data_pipelines.itemize.chat_server import ChatServer, FakeTime
from tests.data_pipelines.itemize.chat_server import fails, says

KEY = "sk-secret-0123456789"


def test_a_question_is_one_request_in_the_form_that_servers_know():
  with ChatServer(says("Yes.", usage=(31, 2))) as server:
    answer = client(server, max_output_tokens=50).complete(MESSAGES)
  assert (answer.text, answer.finish) == ("Yes.", "stop")
  assert (answer.tokens_in, answer.tokens_out) == (31, 2)
  request, = server.requests
  assert request.path == "/v1/chat/completions"
  assert request.payload == {
      "model": "m", "messages": MESSAGES, "temperature": 0, "seed": 0,
      "max_tokens": 50, "response_format": {"type": "json_object"}}
  assert "Authorization" not in request.headers


def test_the_key_comes_from_the_environment_and_goes_to_the_server(monkeypatch):
  monkeypatch.setenv("HOUSE_KEY", KEY + "\n")
  with ChatServer(says("Yes.")) as server:
    client(server, api_key_env="HOUSE_KEY").complete(MESSAGES)
  assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key, what", [("", "nothing"),
                                       ("sk-\u00e4", "no text"),
                                       ("sk-a\nb", "no text")])
def test_a_key_that_is_none_is_told_without_showing_it(monkeypatch, key, what):
  monkeypatch.setenv("HOUSE_KEY", key)
  with pytest.raises(PrepareError, match=f"HOUSE_KEY holds {what}") as caught:
    Client(Options(base_url="http://localhost/v1", model="m",
                   api_key_env="HOUSE_KEY"), Budget(0, 0))
  assert not key or key not in str(caught.value)


@pytest.mark.parametrize("behaviour", [
    fails(500), fails(502), fails(503), fails(504), fails(408), fails(429),
    fails(529), chat_server.closes, chat_server.breaks_off, chat_server.floods,
    chat_server.sends("<html><body>Bad gateway</body></html>", status=502,
                      content_type="text/html"),
    chat_server.sends("<html>Log in</html>", content_type="text/html"),
    chat_server.sends("data: {}\n\n", content_type="text/event-stream"),
    chat_server.sends(b"\xff\xfe\x00{", content_type="application/json"),
    chat_server.sends("", content_type="application/json"),
    chat_server.sends("[" * 100_000), chat_server.sends("[]"),
    chat_server.sends("null"), chat_server.sends('{"choices": []}'),
    chat_server.sends('{"choices": [{}]}'), chat_server.sends("{}", status=204),
    chat_server.sends('{"choices": {"0": 1}}'),
    chat_server.sends('{"choices": [{"message": {"content": 7}}]}')])
def test_a_server_that_fails_is_asked_again(behaviour, caplog):
  caplog.set_level(logging.INFO)
  with ChatServer([behaviour, behaviour, says("Yes.")]) as server:
    assert client(server).complete(MESSAGES).text == "Yes."
  # A busy machine may break a connection by itself: that is one more reason to
  # ask again, and it is told.
  reasons = [r.message for r in caplog.records if "Asking again" in r.message]
  broken = len(reasons) - 2
  assert broken <= sum("Error" in reason for reason in reasons)
  assert len(server.requests) == 3 + broken <= 1 + RETRIES


def test_an_answer_of_the_wrong_type_is_none():
  with ChatServer([says("Yes.", content_type="text/plain"),
                   says("No.", content_type=None)]) as server:
    assert client(server).complete(MESSAGES).text == "No."


@pytest.mark.parametrize("behaviour", [chat_server.hangs, chat_server.drips])
def test_a_server_that_does_not_come_to_an_end_is_left(behaviour):
  with ChatServer([behaviour, says("Yes.")]) as server:
    start = time.monotonic()
    assert client(server, timeout=0.2).complete(MESSAGES).text == "Yes."
  assert time.monotonic() - start < 3  # not the 5 s for which it would go on


def test_after_six_retries_with_growing_pauses_it_is_enough():
  fake = FakeTime()
  with ChatServer(fails(500)) as server:
    asked = client(server, fake=fake)
    with pytest.raises(TryAgain, match="HTTP 500"):
      asked.complete(MESSAGES)
    for _ in range(30):
      with pytest.raises((TryAgain, PrepareError)):
        asked.complete(MESSAGES)
  pauses = [fake.slept[i::6] for i in range(6)]
  assert len(server.requests) == 7 * MAX_UNANSWERED == asked.calls
  for n, some in enumerate(pauses):
    assert max(some) <= min(60, 2 ** n)
    assert len({*some}) > 1, "without jitter all threads come back at once"
  assert max(pauses[5]) > 2 ** 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_says_when_to_come_back(status):
  fake = FakeTime()
  with ChatServer([fails(status, headers={"Retry-After": "17"}),
                   says("Yes.")]) as server:
    client(server, fake=fake).complete(MESSAGES)
  assert 17 <= sum(fake.slept) <= 18


def test_it_may_say_so_by_a_date_or_not_clearly():
  date = email.utils.formatdate(time.time() + 30, usegmt=True)
  assert 28 < retry_after(date) <= 30
  for unclear in (None, "", "soon", "-3", "nan", "inf", "1 2 3",
                  "Mon, 99 Nov 2020 00:00:00 GMT",
                  "Sun, 06 Nov 1994 08:49:37 GMT"):
    assert retry_after(unclear) == 0.0


def test_one_that_wants_hours_ends_the_run():
  fake = FakeTime()
  with ChatServer(fails(429, headers={"Retry-After": "86400"})) as server:
    with pytest.raises(PrepareError, match="wait for 86400 seconds"):
      client(server, fake=fake).complete(MESSAGES)
  assert len(server.requests) == 1 and not fake.slept


@pytest.mark.parametrize("status, told", [
    (401, "refuses the API key"), (402, "paid"), (404, "no such model"),
    (405, "no chat completions"), (403, "cannot be reached.*HTTP 403")])
def test_what_no_retry_mends_ends_the_run_at_once(status, told):
  with ChatServer([fails(status), says("Yes.")]) as server:
    asked = client(server)
    for _ in range(2):  # nor does it go on for other threads
      with pytest.raises(PrepareError, match=told):
        asked.complete(MESSAGES)
  assert len(server.requests) == 1


def test_a_used_up_quota_ends_the_run():
  body = '{"error": {"code": "insufficient_quota"}}'
  with ChatServer(chat_server.sends(body, status=429)) as server:
    with pytest.raises(PrepareError, match="quota"):
      client(server).complete(MESSAGES)
  assert len(server.requests) == 1


def test_nobody_there_is_told_with_the_address():
  with ChatServer(says("Yes.")) as server:
    pass
  with pytest.raises(PrepareError, match="127.0.0.1:.*cannot be reached"):
    client(server).complete(MESSAGES)


def test_a_report_that_a_server_dislikes_costs_only_itself():
  def behave(request):
    return fails(400) if "nodule" in request.question else says("Yes.")
  with ChatServer(behave, by_request=True) as server:
    asked = client(server)
    for _ in range(MAX_UNANSWERED + 1):
      with pytest.raises(Refused, match="HTTP 400"):
        asked.complete(MESSAGES)
      asked.complete([{"role": "user", "content": "?"}])
    # It was not the settings, so they are sent again.
    assert "response_format" in server.requests[-1].payload


@pytest.mark.parametrize("message", [
    "response_format is not supported", "Unrecognized request argument"])
def test_a_setting_that_is_refused_is_left_out_from_then_on(message):
  def behave(request):
    if "response_format" in request.payload:
      return fails(400, message)
    return says("Yes.")
  with ChatServer(behave, by_request=True) as server:
    asked = client(server)
    for _ in range(3):
      assert asked.complete(MESSAGES).text == "Yes."
  assert len(server.requests) == 4
  assert server.requests[-1].payload["seed"] == 0


def test_servers_that_know_other_names_and_no_temperature():
  def behave(request):
    for name in ("max_tokens", "temperature", "seed"):
      if name in request.payload:
        return fails(422, f"Unsupported parameter: '{name}'")
    return says("Yes.")
  with ChatServer(behave, by_request=True) as server:
    client(server, max_output_tokens=9).complete(MESSAGES)
  payload = server.requests[-1].payload
  assert payload["max_completion_tokens"] == 9
  assert "response_format" in payload


def test_json_mode_is_left_out_when_not_wanted():
  with ChatServer(says("Yes.")) as server:
    client(server, json_mode=False, seed=None).complete(MESSAGES)
  assert {*server.requests[0].payload} == {
      "model", "messages", "temperature", "max_tokens"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status):
  with ChatServer(says("Yes.")) as foreign:
    away = fails(status, headers={"Location": foreign.url})
    with ChatServer(away) as server:
      with pytest.raises(PrepareError, match="sends us elsewhere") as caught:
        client(server).complete(MESSAGES)
  assert not foreign.requests and len(server.requests) == 1
  assert foreign.url not in str(caught.value)


def test_proxies_of_the_environment_are_not_used(monkeypatch):
  with ChatServer(says("No.")) as proxy, ChatServer(says("Yes.")) as server:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
      monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert client(server).complete(MESSAGES).text == "Yes."
  assert not proxy.requests


@pytest.mark.parametrize("behaviour, expected", [
    (fails(400, f"bad header Bearer {KEY}"), Unanswered),
    (fails(401, f"wrong key {KEY}"), PrepareError),
    (fails(500, KEY, reason=KEY), Unanswered),
    (fails(302, headers={"Location": f"http://127.0.0.1/{KEY}"}),
     PrepareError),
    (chat_server.sends(KEY, content_type=f"text/{KEY}"), Unanswered),
    (says(f"Your key is {KEY}."), Unanswered)])
def test_neither_key_nor_report_get_into_logs_and_errors(
    behaviour, expected, monkeypatch, caplog, capfd):
  monkeypatch.setenv("HOUSE_KEY", KEY)
  caplog.set_level(logging.DEBUG)
  with ChatServer(behaviour) as server:
    with pytest.raises(expected) as caught:
      client(server, api_key_env="HOUSE_KEY").complete(MESSAGES)
  said = (str(caught.value) + repr(caught.value) + caplog.text
          + "".join(capfd.readouterr()))
  assert KEY not in said and "nodule" not in said


def test_no_more_requests_than_allowed_are_under_way():
  def behave(request):
    time.sleep(0.02)
    return says("Yes.")
  with ChatServer(behave, by_request=True) as server:
    asked = client(server, concurrency=3)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
      list(pool.map(lambda _: asked.complete(MESSAGES), range(24)))
  assert server.most_at_once == 3


def test_without_the_libraries_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "tenacity", None)
  with pytest.raises(PrepareError, match="tenacity; install the extra 'chat'"):
    Client(Options(base_url="http://localhost/v1", model="m"), Budget(0, 0))
