// The command line that every peer program shares.

import { parseArgs } from "node:util";

const COMMANDS = ["prepare", "enqueue", "drain", "life", "unary", "latency"];

/** Reads the command and its options, and throws a message for people when they are wrong. */
export function readOptions(words) {
  const { values, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: {
      url: { type: "string" },
      tasks: { type: "string", default: "200000" },
      batch: { type: "string", default: "1000" },
      producers: { type: "string", default: "4" },
      payload: { type: "string", default: "100" },
      callers: { type: "string", default: "64" },
      samples: { type: "string", default: "1000" },
    },
  });
  const [command] = positionals;
  if (positionals.length !== 1 || !COMMANDS.includes(command)) {
    throw new Error(`expected one command of: ${COMMANDS.join(", ")}`);
  }
  if (values.url === undefined) {
    throw new Error("--url is missing");
  }
  return {
    command,
    url: values.url,
    tasks: positive("tasks", values.tasks),
    batch: positive("batch", values.batch),
    producers: positive("producers", values.producers),
    payload: positive("payload", values.payload),
    callers: positive("callers", values.callers),
    samples: positive("samples", values.samples),
  };
}

function positive(name, text) {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new Error(`--${name} must be a whole number above zero, not ${text}`);
  }
  return value;
}

/** A payload whose JSON text has about `bytes` bytes. */
export function makePayload(bytes) {
  const frame = JSON.stringify({ data: "" }).length;
  return { data: "x".repeat(Math.max(0, bytes - frame)) };
}
