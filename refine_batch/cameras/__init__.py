"""Cameras: in angles, in matrices, of other conventions, as variables, and with their pictures."""
