"""The git program, started so that nothing it finds can make it run anything."""
