"""The default assistant, the offline demo model, and the loading of agents of one's own."""
