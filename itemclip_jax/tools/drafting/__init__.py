"""Parts of `tools.draft`: reports drafted from retrieved findings.

snippets.py      what is retrieved for an image, and what never is
prompt.py        retrieved findings -> messages; the words are in prompt.json
ask.py           messages -> drafts, through the chat client of data_pipelines
text_metrics.py  how near a draft is to the study's own report
page.py          some studies with all of that, for people
"""
