// An application on Node around HttpAgent. Commands come as lines of JSON, and events go out as they come:
//   {"add": [...messages], "run": {...parameters}} -> {"event": ...} ... {"done": {...}}
// Arguments: the client's module, the URL, the thread.
import { createInterface } from "node:readline";

const [client, url, threadId] = process.argv.slice(2);
const { HttpAgent } = await import(client);
const agent = new HttpAgent({ url, threadId });
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
agent.subscribe({ onEvent: ({ event }) => say({ event }) });
// A connection that breaks is thrown past runAgent by 1.0.
let broken;
process.on("uncaughtException", (error) => broken?.(error));
process.on("unhandledRejection", (error) => broken?.(error));

for await (const line of createInterface({ input: process.stdin })) {
  const { add, run } = JSON.parse(line);
  agent.messages.push(...add);
  let error = null;
  try {
    const breaking = new Promise((_, reject) => (broken = reject));
    await Promise.race([agent.runAgent(run), breaking]);
  } catch (thrown) {
    error = String(thrown.message ?? thrown);
  }
  const { messages, state, pendingInterrupts } = agent;
  say({ done: { messages, state, interrupts: pendingInterrupts ?? [], error } });
}
