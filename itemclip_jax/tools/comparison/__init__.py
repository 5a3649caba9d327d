"""Parts of `tools.study`.

    definition  the files of configs/study
    work        one run: prepare, train, evaluate, in processes of their own
    record      what a finished run leaves: one JSON
    summary     records -> means, intervals, paired differences
    page        docs/study.md
    figure      docs/study/<name>.png
    markdown    tables that are aligned as text, too
"""
