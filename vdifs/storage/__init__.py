"""An open source file: its bytes, what state it is in, where its holes are. Knows no format."""
