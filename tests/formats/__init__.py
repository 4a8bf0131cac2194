"""The formats: no image is opened by its name here."""
