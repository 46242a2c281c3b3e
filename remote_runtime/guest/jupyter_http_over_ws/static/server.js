// Talks to the server that the page came from.

export const ANSWER_MS = 15000;

// The page's own address is <base_url>remote-runtime, so what is relative to it is relative to the base URL.
export const place = (path) => new URL(path, location.href);

function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

export async function ask(method, path, options = {}) {
  const headers = method === "GET" ? {} : { "X-XSRFToken": cookie("_xsrf") };
  const limit = AbortSignal.timeout(ANSWER_MS);
  return fetch(place(path), { method, headers, signal: limit, cache: "no-store", ...options });
}

// The server does not know who we are, or no longer does.
export class Refused extends Error {}

export async function askJson(method, path, options) {
  const answer = await ask(method, path, options);
  if (answer.status === 401 || answer.status === 403) throw new Refused(`status ${answer.status}`);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

// A WebSocket whose messages are waited for.
export class Channel {
  static open(path) {
    const url = place(path);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const channel = new Channel(new WebSocket(url));
    return channel.wait(ANSWER_MS, "opening", (settle) => {
      channel.socket.onopen = () => settle(channel);
    });
  }

  constructor(socket) {
    this.socket = socket;
    this.closed = "";
    this.fail = () => {};
    socket.onclose = (event) => {
      this.closed = `the socket was closed (${event.code}${event.reason ? ` ${event.reason}` : ""})`;
      this.fail(new Error(this.closed));
    };
  }

  // What `listen` settles; an error when the socket is closed or the time is over.
  wait(limit, doing, listen) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.fail(new Error(`no answer while ${doing}`)), limit);
      const end = (settle) => (value) => {
        clearTimeout(timer);
        this.fail = () => {};
        settle(value);
      };
      this.fail = end((error) => {
        this.close();
        reject(error);
      });
      if (this.closed) this.fail(new Error(this.closed));
      else listen(end(resolve));
    });
  }

  // Send `message`, and give each answer to `take` until that returns something.
  ask(message, limit, doing, take) {
    return this.wait(limit, doing, (settle) => {
      this.socket.onmessage = (event) => {
        const taken = take(event.data);
        if (taken !== undefined) settle(taken);
      };
      this.socket.send(message);
    });
  }

  close() {
    this.socket.onmessage = null;
    this.socket.close();
  }
}
