"""Clients of Restate's HTTP APIs: one of the ingress, one of the admin API."""

from adk_chat.restate_api.admin import AdminApi, AdminError
from adk_chat.restate_api.http import Answer, UnansweredError
from adk_chat.restate_api.ingress import Ingress

__all__ = ["AdminApi", "AdminError", "Answer", "Ingress", "UnansweredError"]
