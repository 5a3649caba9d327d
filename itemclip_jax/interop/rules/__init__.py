"""One file per family of public checkpoints: names there and here."""
