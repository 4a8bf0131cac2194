"""The files: opening them under a policy, what each layer of a chain holds, reading. The only room that opens files."""
