"""`python -m adk_chat` is the command `adk-chat`."""

from adk_chat.cli.main import main

if __name__ == "__main__":
    main()
