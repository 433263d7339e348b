"""One module or package per mesh format: bytes in, vertices and faces out, in the file's own order.

Readers of general libraries split vertices at texture seams, reorder polygons by their number of corners, decode
embedded textures, follow references to other files or stop silently at text that is no number. A refined mesh has to
have exactly its input's topology and a file may come from anywhere, so these readers do none of that. Each raises
`MeshFormatError` for what it cannot read and `MeshTooLargeError` as soon as it can know the number of faces.
"""
