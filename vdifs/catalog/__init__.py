"""What a source holds: the search, the images that it finds, who may use them, and what is kept of those in trouble."""
