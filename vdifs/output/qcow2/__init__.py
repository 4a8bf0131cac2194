"""A synthetic qcow2: where everything lies in it, its tables, its clusters."""
