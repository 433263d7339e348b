"""glTF 2.0 (https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html), as GLB or as JSON with its buffers beside it.

`document` is the file's description and its binary chunk, `buffers` and `accessors` fetch and decode what they name,
`scene` says where meshes stand, `parts` makes vertices and faces of them, in the order that reading and writing share.
Images are never looked at.
"""
