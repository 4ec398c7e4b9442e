// A page with CopilotKit's chat, whose runtime is the gateway.
import { CopilotChat, CopilotKit, useFrontendTool, useHumanInTheLoop } from "@copilotkit/react-core/v2";
import "@copilotkit/react-core/v2/styles.css";
import { createRoot } from "react-dom/client";
import { z } from "zod";

const given = Object.fromEntries(new URLSearchParams(location.search));

function Tools() {
  useFrontendTool({
    name: "paint",
    description: "Paints the page.",
    parameters: z.object({ color: z.string() }),
    handler: async ({ color }) => {
      document.body.dataset.color = color;
      return `painted ${color}`;
    },
  });
  useHumanInTheLoop({
    name: "pay",
    description: "Asks before something is paid.",
    parameters: z.object({ amount: z.number() }),
    render: ({ args, respond }) =>
      respond ? (
        <button data-testid="approve" onClick={() => respond({ approved: true })}>
          Pay {args.amount}
        </button>
      ) : (
        <i>Payment of {args.amount}</i>
      ),
  });
  return null;
}

createRoot(document.getElementById("root")!).render(
  <CopilotKit
    runtimeUrl={given.url}
    headers={given.token ? { Authorization: `Bearer ${given.token}` } : { "x-user-id": given.user }}
    useSingleEndpoint={given.single === "yes"}
  >
    <Tools />
    <CopilotChat agentId={given.agent} threadId={given.thread} />
  </CopilotKit>,
);
