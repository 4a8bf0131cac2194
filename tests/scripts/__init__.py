"""The scripts, as far as they are programs of their own."""
