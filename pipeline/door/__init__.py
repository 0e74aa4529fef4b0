"""The door: makes the environment, installs what is missing, and tells what a machine has. Standard library only."""
