"""The command line: what it prints, where, and what status it ends with."""
