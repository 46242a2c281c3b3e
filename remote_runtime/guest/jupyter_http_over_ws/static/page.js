// Shows how the server and its machine are, and asks again every few seconds.

import { byId, element } from "./elements.js";
import { offerSelfTest } from "./selftest.js";
import { Refused, askJson } from "./server.js";

const POLL_MS = 5000;

function rows(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return known.flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]);
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return `${Math.max(0, Math.round(seconds))} s`;
  return parts
    .slice(first, first + 2)
    .map(([size, name], at) => `${Math.floor((at ? seconds % parts[first][0] : seconds) / size)} ${name}`)
    .join(" ");
}

const ago = (moment) => duration((Date.now() - Date.parse(moment)) / 1000);

function gauge(name, used, total, text) {
  const box = element("div", "", { class: "gauge" });
  const line = element("div");
  line.append(element("b", name), element("span", text));
  const bar = element("progress", "", { max: "1", value: String(total ? used / total : 0), "aria-label": `${name}: ${text}` });
  if (total && used / total > 0.9) bar.classList.add("full");
  box.append(line, bar);
  return box;
}

function gauges(machine) {
  const shown = [];
  const amount = (used, total) => `${bytes(used)} of ${bytes(total)}`;
  const { memory, disk, gpus } = machine;
  if (memory) shown.push(gauge("Memory", memory.total - memory.available, memory.total,
    amount(memory.total - memory.available, memory.total)));
  if (disk) shown.push(gauge("Disk", disk.used, disk.used + disk.available,
    `${amount(disk.used, disk.total)}, ${bytes(disk.available)} free`));
  gpus.forEach((gpu, number) => {
    const name = gpus.length > 1 ? `GPU ${number}: ${gpu.name}` : gpu.name;
    const busy = gpu.busy === null ? "" : `, ${Math.round(gpu.busy * 100)} % busy`;
    shown.push(gauge(name, gpu.used, gpu.total, amount(gpu.used, gpu.total) + busy));
  });
  return shown;
}

function kernelRow(kernel, memory) {
  const row = element("tr");
  const state = element("td", kernel.execution_state, kernel.execution_state === "busy" ? { class: "busy" } : {});
  row.append(
    element("td", kernel.name, { title: kernel.id }),
    state,
    element("td", memory === undefined ? "–" : bytes(memory)),
    element("td", String(kernel.connections)),
    element("td", `${ago(kernel.last_activity)} ago`),
  );
  return row;
}

function show(values, status, kernels) {
  const { server, machine } = values;
  byId("server").replaceChildren(...rows([
    ["Jupyter Server", server.jupyter_server],
    ["Extension", server.extension],
    ["Python", server.python],
    ["Running for", ago(status.started)],
    ["Process", server.pid],
    ["Directory", server.root_dir],
  ]));
  byId("machine").replaceChildren(...rows([
    ["Name", machine.name],
    ["System", machine.system],
    ["Running for", machine.uptime === null ? null : duration(machine.uptime)],
    ["Processors", machine.processors],
    ["Load", machine.load === null ? null : machine.load.toFixed(2)],
    ["GPUs", machine.gpus.length || "none"],
  ]));
  byId("gauges").replaceChildren(...gauges(machine));
  byId("kernels").replaceChildren(...kernels.map((kernel) => kernelRow(kernel, values.kernels[kernel.id])));
  byId("no-kernels").hidden = kernels.length > 0;
  byId("kernels-table").hidden = kernels.length === 0;
  byId("origins").textContent = allowed(server);
  document.title = `${machine.name} · remote-runtime`;
}

function allowed(server) {
  const name = server.allowed_origin || (server.allowed_pattern && `each that matches ${server.allowed_pattern}`);
  return name
    ? `This server lets in ${name}. Only a page from there can show that it does, as the browser itself says where a ` +
      "page is from."
    : "This server lets in no page but its own, so Colab can’t use it. Start it with " +
      "--ServerApp.allow_origin=https://colab.research.google.com";
}

function tell(state, text) {
  const line = byId("state");
  if (line.textContent !== text) line.textContent = text; // else a screen reader would read it again and again
  line.dataset.state = state;
}

let lastAnswer = "";

async function poll() {
  let again = true;
  try {
    const [values, status, kernels] = await Promise.all([
      askJson("GET", "remote-runtime/status"),
      askJson("GET", "api/status"),
      askJson("GET", "api/kernels?no_track_activity=1"),
    ]);
    show(values, status, kernels);
    lastAnswer = new Date().toLocaleTimeString();
    tell("well", "The server answers");
  } catch (error) {
    again = !(error instanceof Refused);
    if (!again) tell("lost", "The server does not know you any more. Open this page again by a URL with its token.");
    else tell("lost", lastAnswer ? `The server does not answer; it last did at ${lastAnswer}` : "The server does not answer");
  }
  if (again) setTimeout(wake, POLL_MS);
}

function wake() {
  if (document.hidden) document.addEventListener("visibilitychange", wake, { once: true });
  else poll();
}

// The login is in a cookie now: the token need not stay in the address bar, the history and the next screenshot.
if (location.search) history.replaceState(null, "", location.pathname);
offerSelfTest();
poll();
