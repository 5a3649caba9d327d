"""Names of what `--mode=compile` leaves in its work directory."""

NUMBERS, TEXT = "compile.json", "compile.txt.gz"
