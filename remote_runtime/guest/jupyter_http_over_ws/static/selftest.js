// The self-test: both of Colab's ways to the server, as far as a page of the server itself can go them.

import { byId, element } from "./elements.js";
import { ANSWER_MS, Channel, ask, askJson, place } from "./server.js";

const CELL_MS = 60000;
const XSSI_PREFIX = ")]}'\n";

function expect(condition, found) {
  if (!condition) throw new Error(found);
}

// Run one cell on a kernel's channels, and give back what it printed.
function runCell(channel, code) {
  const id = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
  const header = { msg_id: id, msg_type: "execute_request", username: "", session: id, date: new Date().toISOString(), version: "5.3" };
  const content = { code, silent: false, store_history: false, user_expressions: {}, allow_stdin: false };
  let printed = "";
  const message = JSON.stringify({ header, parent_header: {}, metadata: {}, content, channel: "shell" });
  return channel.ask(message, CELL_MS, "running a cell", (data) => {
    const reply = JSON.parse(data);
    if (reply.parent_header.msg_id !== id) return undefined;
    if (reply.msg_type === "stream") printed += reply.content.text;
    return reply.msg_type === "status" && reply.content.execution_state === "idle" ? printed : undefined;
  });
}

async function cellOn(path) {
  const channel = await Channel.open(path);
  try {
    const printed = await runCell(channel, "print(6 * 7)");
    expect(printed === "42\n", `print(6 * 7) gave ${JSON.stringify(printed)}`);
    return "print(6 * 7) gave 42";
  } finally {
    channel.close();
  }
}

// One request through the socket that carries them.
async function carried(method, path) {
  const channel = await Channel.open("http_over_websocket?min_version=0.0.7");
  try {
    const message = JSON.stringify({ message_id: "1", method, path: place(path).pathname });
    let status;
    return await channel.ask(message, ANSWER_MS, "a request was carried", (data) => {
      const frame = JSON.parse(data);
      status = status ?? frame.status;
      return frame.done ? status : undefined;
    });
  } finally {
    channel.close();
  }
}

const DIRECT = [
  ["A request with your login is answered", async () => {
    const version = (await askJson("GET", "api")).version;
    await askJson("GET", "api/status");
    return `Jupyter Server ${version}`;
  }],
  ["A wrong token is refused, readably", async () => {
    const answer = await ask("GET", "api/status?token=no-such-token", { credentials: "omit" });
    expect(answer.status === 403, `status ${answer.status}`);
    return "status 403";
  }],
  ["Colab’s gauges are served", async () => {
    for (const path of ["api/colab/resources", "api/colab/build-info"]) {
      const answer = await ask("GET", path);
      const text = await answer.text();
      expect(answer.ok && text.startsWith(XSSI_PREFIX), `${path}: status ${answer.status}`);
      JSON.parse(text.slice(XSSI_PREFIX.length));
    }
    return "";
  }],
  ["A kernel starts", async (test) => {
    test.kernel = (await askJson("POST", "api/kernels", { body: "{}" })).id;
    return "";
  }],
  ["It runs a cell", (test) => cellOn(`api/kernels/${test.kernel}/channels`), "kernel"],
];

const CARRIED = [
  ["The extension introduces itself", async () => {
    const channel = await Channel.open("http_over_websocket/diagnose?min_version=0.0.7");
    try {
      const told = await channel.ask("page", ANSWER_MS, "diagnosing", (data) => JSON.parse(data));
      expect(told.message_id === "page" && !told.is_outdated_extension, "it calls itself outdated");
      return `version ${told.extension_version}`;
    } finally {
      channel.close();
    }
  }],
  ["A request is carried", async () => {
    const status = await carried("GET", "api/kernelspecs");
    expect(status === 200, `status ${status}`);
    return "";
  }],
  ["A request that changes something is carried", async (test) => {
    const status = await carried("POST", `api/kernels/${test.kernel}/interrupt`);
    expect(status === 204, `status ${status}`);
    return "";
  }, "kernel"],
  ["The kernel runs a cell", (test) => cellOn(`http_over_websocket/proxied_ws/api/kernels/${test.kernel}/channels`), "kernel"],
];

const WORDS = { waiting: "", running: "running", passed: "passed", failed: "failed", skipped: "skipped" };

function listed(list, steps) {
  const lines = steps.map(([what, run, needs]) => {
    const line = element("li");
    const word = element("b");
    const detail = element("span", "", { class: "detail" });
    line.append(word, element("span", what, { class: "what" }), detail);
    const mark = (state, text = "") => {
      line.dataset.state = state;
      word.textContent = WORDS[state];
      detail.textContent = text;
    };
    return { line, mark, run, needs };
  });
  byId(list).replaceChildren(...lines.map((step) => step.line));
  return lines;
}

async function runStep(step, test) {
  if (step.needs && !test[step.needs]) {
    step.mark("skipped", "there is no kernel to try it on");
    return false;
  }
  step.mark("running");
  try {
    step.mark("passed", await step.run(test));
    return true;
  } catch (error) {
    step.mark("failed", error.message);
    return false;
  }
}

async function selfTest(steps) {
  const button = byId("run");
  const verdict = byId("verdict");
  const test = { kernel: "" };
  let failed = 0;
  button.disabled = true;
  verdict.dataset.state = "running";
  verdict.textContent = "Running …";
  steps.forEach((step) => step.mark("waiting"));
  for (const step of steps) failed += (await runStep(step, test)) ? 0 : 1;
  if (test.kernel) await ask("DELETE", `api/kernels/${test.kernel}`).catch(() => {});
  verdict.dataset.state = failed ? "failed" : "passed";
  verdict.textContent = failed ? `${failed} of ${steps.length} did not pass` : `All ${steps.length} passed`;
  button.disabled = false;
}

// Show the steps, and let the button run them.
export function offerSelfTest() {
  const steps = [...listed("direct", DIRECT), ...listed("carried", CARRIED)];
  byId("run").addEventListener("click", () => selfTest(steps));
}
