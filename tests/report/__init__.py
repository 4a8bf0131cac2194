"""What is told of images."""
