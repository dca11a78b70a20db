"""Where is it kept? All SQL on our own state."""
