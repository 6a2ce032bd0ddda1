"""One module per family of commands; imported when the command runs, so that `--help` stays quick."""
