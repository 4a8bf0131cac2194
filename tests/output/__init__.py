"""The virtual output: its allocation, its layout and its bytes, over chains that exist only as statements."""
