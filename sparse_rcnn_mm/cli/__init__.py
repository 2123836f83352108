"""The command line: one module a command, each with `main(argv) -> exit status`; tools/*.py call the same mains."""
