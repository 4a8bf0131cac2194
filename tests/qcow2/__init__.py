"""The format alone: no file is opened here."""
