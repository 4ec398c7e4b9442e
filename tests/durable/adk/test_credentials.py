"""A user's credentials are kept, and no secret is stored in plain text."""

from urllib.parse import parse_qs, urlparse

from adk_chat.dev.server import RestateServer
from tests.conftest import query, stored
from tests.durable.postman import asked
from tests.support import ChatClient, unique


async def test_a_user_consents_once(chat: ChatClient, server: RestateServer) -> None:
    at = {"session_id": "s", "app_name": "postman"}
    assert (await chat.send("message", {"message": "call read {}", **at})).is_success
    events = await chat.call("get_history", at)
    (request,) = [
        part["functionCall"]
        for event in events
        for part in event.get("content", {}).get("parts", [])
        if part.get("functionCall", {}).get("name") == "adk_request_credential"
    ]
    config, code = request["args"]["authConfig"], unique("code")
    oauth = config["exchangedAuthCredential"]["oauth2"]
    (state,) = parse_qs(urlparse(oauth["authUri"]).query)["state"]
    oauth |= {"authResponseUri": f"http://127.0.0.1:9/back?code={code}&state={state}", "redirectUri": "http://x/back"}
    answer = {"id": request["id"], "name": request["name"], "response": config}
    length = len(f"token-for-{code}")
    said = await chat.send("message", {"parts": [{"functionResponse": answer}], **at})
    assert (said.status_code, str(length) in said.text) == (200, True), said.text
    assert asked[code] == 1
    again = await chat.send("message", {"message": "call read {}", "session_id": "other", "app_name": "postman"})
    assert (again.status_code, str(length) in again.text) == (200, True), again.text
    assert asked[code] == 1
    # Nor is it in a journal, or in the state.
    secret = f"token-for-{code}"
    assert secret not in str(await stored(server, chat.user))
    turns = await query(server, f"SELECT id FROM sys_invocation WHERE target_service_key LIKE '{chat.user}/%'")
    journals = [await query(server, f"SELECT * FROM sys_journal WHERE id = '{turn['id']}'") for turn in turns]
    assert len(journals) == 3
    assert secret not in str(journals)


async def test_what_a_toolset_was_given_is_kept(chat: ChatClient, server: RestateServer) -> None:
    await chat.message("s", "keep", app_name="postman")
    await chat.message("other", "look", app_name="postman")
    session = await chat.call("get_session", {"session_id": "other", "app_name": "postman"})
    assert session["state"]["found"] is True
    assert "a secret of a toolset" not in str(await stored(server, chat.user))
