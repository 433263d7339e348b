"""Reading and writing files: storage of every kind, meshes and images."""
