"""What Restate hosts: the virtual objects Chat, Turn and AppState."""
