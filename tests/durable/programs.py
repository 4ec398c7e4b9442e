"""Programs written for `restate.ext.adk`, with nothing but the import changed."""

import restate

programs: list[restate.VirtualObject] = []
