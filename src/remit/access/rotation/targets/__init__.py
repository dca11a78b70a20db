"""Systems on which a standing login is replaced, one file for each."""
