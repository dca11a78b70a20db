"""Places from which programs take a credential, one file for each kind."""
