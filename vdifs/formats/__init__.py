"""What images are made of: each format in a room of its own, and what they have in common."""
