"""How it looks: text, terminal, pictures."""
