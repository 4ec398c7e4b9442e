"""An agent of the chaos."""
