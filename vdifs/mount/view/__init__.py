"""Names and attributes: what stands where in a mount. Knows neither trio nor FUSE."""
