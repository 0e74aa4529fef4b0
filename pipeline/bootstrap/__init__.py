"""Setup: creates the environment, installs missing packages, reports on the machine. Standard library only."""
