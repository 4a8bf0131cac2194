"""The pictures behind `scripts/pictures`: commands run on a terminal, and what they left on it as SVG."""
