"""An agent that prints much when it is loaded by one process of several."""

import os
import sys

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App

LOUD = "loud " * 50_000

app = App(name="loud", root_agent=LlmAgent(name="loud"))
if (worker := os.environ.get("ADK_CHAT_WORKER")) is not None:
    sys.stdout.write(LOUD + worker + "\n")
