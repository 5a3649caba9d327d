"""Raw files of one study, read by the code that builds training sets."""
