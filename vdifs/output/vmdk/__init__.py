"""A synthetic VMDK (streamOptimized): where everything lies in it, its grains as stored deflate blocks, its tables."""
