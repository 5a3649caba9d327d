"""What a chat client and back-end make of a server's answers."""

from data_pipelines.itemize import recipes
from data_pipelines.itemize.chat.backend import Chat
from data_pipelines.itemize.chat.budget import Budget
from data_pipelines.itemize.chat.client import Client
from data_pipelines.itemize.chat.options import Options
from data_pipelines.itemize.contract import Draft, Item, Record
from tests.data_pipelines.itemize.chat_server import ChatServer, FakeTime
from tests.data_pipelines.itemize.chat_server import Request, says

REPORT = Record("r1", {"findings": (
    "There is a 5 mm nodule in the left upper lobe. No pleural effusion. "
    "The heart is mildly enlarged. The spleen is normal.")})
CAPTIONS = Record("c1", captions=(
    "A red car parks in front of a house.", "a red car in front of a house",
    "Two dogs sleep on the grass."))
ANATOMY = Record("a", {
    "findings": "Nodule in the left lung. The jejunum is normal.",
    "impression": "Lung nodule."})

MESSAGES = [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Is there a nodule?"}]


class StubRules:
  """What falls back to it, is seen."""
  name = "rules"

  def items(self, recipe, record):
    del recipe, record
    return Draft(items=(Item("Made by rules."),), warnings=("overlap",))


def client(server: ChatServer, *, fake: FakeTime | None = None,
           budget: Budget | None = None, **options) -> Client:
  """In true time it does not wait long before it tries again."""
  times = {"clock": fake.clock, "sleep": fake.sleep} if fake else {}
  return Client(
      Options(base_url=server.url, model="m", **options),
      budget or Budget(0, 0), first_pause=1.0 if fake else 0.001, **times)


def chat(server: ChatServer, *, cache=None, **options) -> Chat:
  """A back-end that does not wait long before it tries again."""
  return Chat(Options(base_url=server.url, model="m", **options), StubRules(),
              cache=cache, first_pause=0.001)


def asked(answers, recipe: str, record: Record = REPORT,
          **options) -> tuple[Draft, list[Request]]:
  """A record's draft, and the requests that led to it.

  answers: what the server says to one request after the other, the last of
  them for ever; or behaviours.
  """
  answers = [a if callable(a) else says(a) for a in answers]
  with ChatServer(answers) as server:
    draft = chat(server, **options).items(recipes.get(recipe), record)
  return draft, server.requests


def texts(draft) -> list[str]:
  return [item.text for item in draft.items]


def quoted(item, record: Record = REPORT) -> list[str]:
  """The record's characters at the sources of an item."""
  return [record.texts()[s.section][s.start:s.end] for s in item.sources]
