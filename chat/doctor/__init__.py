"""Check the machine, this build and the settings, and say what is wrong in plain words."""
