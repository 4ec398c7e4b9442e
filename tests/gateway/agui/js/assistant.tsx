// A page with assistant-ui's chat over HttpAgent.
import { HttpAgent } from "@ag-ui/client";
import {
  AssistantRuntimeProvider,
  ComposerPrimitive,
  ExportedMessageRepository,
  MessagePrimitive,
  ThreadPrimitive,
  useAssistantTool,
} from "@assistant-ui/react";
import {
  fromAgUiMessages,
  useAgUiInterrupts,
  useAgUiRuntime,
  useAgUiSubmitInterruptResponses,
} from "@assistant-ui/react-ag-ui";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const given = Object.fromEntries(new URLSearchParams(location.search));
const agent = new HttpAgent({
  url: given.url,
  threadId: given.thread,
  headers: given.token ? { Authorization: `Bearer ${given.token}` } : {},
});

// The thread as it is stored. If a turn is running, the runtime asks for it, and gets it from its beginning.
const history = {
  async load() {
    const url = new URL(given.url);
    url.pathname += `/threads/${encodeURIComponent(given.thread)}`;
    const answer = await fetch(url, { headers: agent.headers });
    if (answer.status === 404) return { messages: [] };
    const { messages, runningTurnId } = await answer.json();
    const loaded = ExportedMessageRepository.fromArray(fromAgUiMessages(messages));
    return { ...loaded, unstable_resume: runningTurnId !== null };
  },
  async append() {},
};

function Tools() {
  useAssistantTool({
    toolName: "paint",
    description: "Paints the page.",
    parameters: { type: "object", properties: { color: { type: "string" } }, required: ["color"] },
    execute: async ({ color }: { color: string }) => {
      document.body.dataset.color = color;
      return `painted ${color}`;
    },
  });
  const interrupts = useAgUiInterrupts();
  const answer = useAgUiSubmitInterruptResponses();
  const approve = () =>
    answer(interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload: { approved: true } })));
  return interrupts.length ? (
    <button data-testid="approve" onClick={approve}>
      {interrupts[0].message}
    </button>
  ) : null;
}

const Said = () => (
  <MessagePrimitive.Root data-testid="message">
    <MessagePrimitive.Parts />
  </MessagePrimitive.Root>
);

function Page() {
  const [error, setError] = useState("");
  const runtime = useAgUiRuntime({ agent, adapters: { history }, onError: (thrown) => setError(String(thrown)) });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages components={{ Message: Said }} />
        <Tools />
        <p role="alert">{error}</p>
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input placeholder="Type a message..." />
          <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

createRoot(document.getElementById("root")!).render(<Page />);
