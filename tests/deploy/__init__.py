"""What is shipped: the package, and the files in deploy/."""
