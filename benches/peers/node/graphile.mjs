// graphile-worker with the settings of its own performance test.

import { setTimeout as pause } from "node:timers/promises";
import { Logger, makeWorkerUtils, run, runMigrations, WorkerPreset } from "graphile-worker";
import pg from "pg";
import { main } from "./bench.mjs";

const TASK = "noop";
const CONCURRENCY = 24;
const POOL_SIZE = 25;
const SETTLED_POLL_MS = 2;

const logger = new Logger(() => (level, message) => {
  if (level === "error") {
    console.error(message);
  }
});

const preset = {
  extends: [WorkerPreset],
  worker: {
    concurrentJobs: CONCURRENCY,
    maxPoolSize: POOL_SIZE,
    localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};

await main({ migrate, connect, work, counts });

async function migrate(url) {
  await runMigrations({ connectionString: url, logger });
}

async function connect(url, { connections }) {
  const utils = await makeWorkerUtils({ connectionString: url, maxPoolSize: connections + 1, logger });
  return {
    submit: (payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: TASK, payload }))),
    submitOne: (payload) => utils.addJob(TASK, payload),
    close: () => utils.release(),
  };
}

async function work(url, onStart) {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  await pool.query("SELECT 1");
  let started = 0;
  let reached = () => {};
  const taskList = {
    [TASK]: () => {
      onStart();
      started += 1;
      reached();
    },
  };
  const runner = await run({ connectionString: url, preset, taskList, logger, noHandleSignals: true });
  return {
    // Settled tasks are deleted, in batches that no event reports: the empty table tells.
    async settled(count) {
      await new Promise((resolve) => {
        reached = () => started >= count && resolve();
        reached();
      });
      while ((await counts(pool)).waiting > 0) {
        await pause(SETTLED_POLL_MS);
      }
    },
    async stop() {
      await runner.stop();
      await pool.end();
    },
  };
}

async function counts(pool) {
  const { rows } = await pool.query("SELECT count(*)::int AS waiting FROM graphile_worker._private_jobs");
  return { waiting: rows[0].waiting, finished: null };
}
