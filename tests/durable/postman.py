"""An app whose tool needs an OAuth token, and a server that issues tokens, one per code."""

import http.server
import json
import threading
import urllib.parse
from collections import Counter

from fastapi.openapi.models import OAuth2, OAuthFlowAuthorizationCode, OAuthFlows
from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes, OAuth2Auth
from google.adk.auth.auth_tool import AuthConfig
from google.adk.tools.authenticated_function_tool import AuthenticatedFunctionTool

from tests.support import Json, ScriptedModel, obey

asked: Counter[str] = Counter()
"""How many times a token was requested, by code."""


class Tokens(http.server.BaseHTTPRequestHandler):
    """Accepts a code once, as RFC 6749 requires."""

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        code = form["code"][0]
        asked[code] += 1
        refused = {"error": "invalid_grant"}
        token = {"access_token": f"token-for-{code}", "token_type": "Bearer", "expires_in": 3600}
        body = json.dumps(token if asked[code] == 1 else refused).encode()
        self.send_response(200 if asked[code] == 1 else 400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def postman() -> App:
    """The app."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flow = OAuthFlowAuthorizationCode(
        authorizationUrl="http://127.0.0.1:9/authorize",
        tokenUrl=f"http://127.0.0.1:{server.server_address[1]}/token",
        scopes={"read": "read"},
    )
    config = AuthConfig(
        auth_scheme=OAuth2(flows=OAuthFlows(authorizationCode=flow)),
        raw_auth_credential=AuthCredential(
            auth_type=AuthCredentialTypes.OAUTH2, oauth2=OAuth2Auth(client_id="me", client_secret="hush")
        ),
    )

    def read(credential: AuthCredential) -> Json:
        """Read mail."""
        assert credential.oauth2 is not None
        return {"length": len(credential.oauth2.access_token or "")}

    async def keep(callback_context: CallbackContext) -> None:
        """Keep a credential as ADK does for a toolset, with a context of its own; or look for it."""
        invocation = callback_context.get_invocation_context()
        key = AuthCredential(auth_type=AuthCredentialTypes.API_KEY, api_key="a secret of a toolset")
        of_toolset = config.model_copy(update={"credential_key": "toolset", "exchanged_auth_credential": key})
        service, text = invocation.credential_service, str(invocation.user_content)
        assert service is not None
        if "keep" in text:
            await service.save_credential(of_toolset, CallbackContext(invocation))
        if "look" in text:
            found = await service.load_credential(of_toolset, CallbackContext(invocation))
            callback_context.state["found"] = found == key

    tool = AuthenticatedFunctionTool(func=read, auth_config=config)
    agent = LlmAgent(name="postman", model=ScriptedModel(script=obey), tools=[tool], before_agent_callback=keep)
    return App(name="postman", root_agent=agent)
