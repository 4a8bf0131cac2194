"""What is told of images, as values: maps, problems."""
