"""Items by a language model behind an OpenAI-compatible server.

backend.py    Chat: a record and a recipe -> Draft, like rules.Rules
client.py     one question -> one answer: retries, limits; replies.py: what a
              server's reply means
hosts.py      which addresses reports may be sent to
limits.py     requests and tokens a minute
cache.py      answers on disk: a rerun asks nothing and changes nothing
budget.py     what a run will cost, and where it stops
parse.py      answers -> indices, items, triplets; or what is wrong with them
prompts.py    templates/*.json -> messages
questions.py  what is asked for a recipe, and what becomes of the answers;
              report_questions.py: anatomies and triplets
options.py    all settings
"""
