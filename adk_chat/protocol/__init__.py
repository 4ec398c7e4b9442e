"""What travels between the parts: requests, turn ids, how turns end, stream entries, errors with their status, limits.

This package imports no other package of adk_chat.
"""
