"""What is installed with the package: the licence of each dependency, and whether the wheel holds all that is needed."""
