// Questions to the server. It may ask for an API key: the page is told to get one, and the question is asked again.

const STORED = "senet-convert-api-key";
const NO_KEY = 401;

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Server {
  // `askForKey(wrong)` gives a key, or null when the person has none.
  constructor(askForKey) {
    this.askForKey = askForKey;
    this.asking = null;
  }

  models() {
    return this.ask("v1/models", {});
  }

  // `choice` is {model, version}; what is not chosen is left to the server.
  classify(picture, choice, signal) {
    return this.post("v1/classify", picture, choice, signal);
  }

  gates(picture, choice, signal) {
    return this.post("v1/gates", picture, choice, signal);
  }

  post(path, picture, choice, signal) {
    const chosen = Object.entries(choice).filter(([, value]) => value);
    const query = new URLSearchParams(chosen);
    const headers = { "Content-Type": picture.type.startsWith("image/") ? picture.type : "application/octet-stream" };
    return this.ask(`${path}?${query}`, { method: "POST", body: picture, headers, signal });
  }

  async ask(path, options) {
    for (;;) {
      const key = sessionStorage.getItem(STORED);
      const headers = { ...options.headers, ...(key ? { "X-API-Key": key } : {}) };
      const response = await fetch(path, { ...options, headers }).catch((fault) => {
        if (fault.name === "AbortError") throw fault;
        throw new Refusal(0, "The server cannot be reached. Is it still running?");
      });
      if (response.status === NO_KEY && (await this.newKey(key))) continue;
      const answer = await response.json().catch(() => ({}));
      if (response.ok) return answer;
      throw new Refusal(response.status, answer.error || `The server answered ${response.status} without a reason.`);
    }
  }

  // Asks once, however many questions wait for the key.
  async newKey(old) {
    this.asking ??= Promise.resolve(this.askForKey(old !== null)).finally(() => (this.asking = null));
    const key = await this.asking;
    if (key) sessionStorage.setItem(STORED, key);
    else sessionStorage.removeItem(STORED);
    return Boolean(key);
  }
}
