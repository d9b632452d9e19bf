// Continues the interrupted jobs of claudejob and delivers their notifications.

import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, isAbsolute, join } from "node:path";

// The PATH of a service lacks some of these.
const HOME_FOLDERS = [".local/bin", "bin", ".npm-global/bin", ".cargo/bin"];
const FOLDERS = ["/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"];
const RECOVER_TIMEOUT_MS = 120_000;
// Each notification can take some seconds.
const REDELIVER_TIMEOUT_MS = 300_000;

/** Returns the path of claudejob, or undefined. */
export async function findClaudejob(env = process.env) {
  const home = env.HOME || homedir();
  const folders = [
    ...(env.PATH ?? "").split(delimiter),
    ...HOME_FOLDERS.map((folder) => join(home, folder)),
    ...FOLDERS,
    ...(await npmFolders(env, home)),
  ];
  const paths = folders.filter(isAbsolute).map((folder) => join(folder, "claudejob"));
  for (const path of env.CLAUDEJOB ? [env.CLAUDEJOB, ...paths] : paths) {
    if (await isProgram(path)) {
      return path;
    }
  }
  return undefined;
}

/** Returns the folders where npm may have installed programs, without running npm. */
async function npmFolders(env, home) {
  const settings = await readFile(join(home, ".npmrc"), "utf8").catch(() => "");
  const prefix = settings.match(/^\s*prefix\s*=\s*"?([^"\n]+)/m)?.[1].trim();
  return [
    env.npm_config_prefix,
    env.NPM_CONFIG_PREFIX,
    prefix?.replace(/^(~|\$\{HOME\})(?=\/)/, () => home),
    dirname(dirname(process.execPath)),
  ].flatMap((folder) => (folder ? [join(folder, "bin")] : []));
}

async function isProgram(path) {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** Runs claudejob and returns its answer. Throws an error whose message is one line. */
function answerOf(binary, args, timeout) {
  return new Promise((resolve, reject) => {
    const options = { timeout, maxBuffer: 16 << 20 };
    execFile(binary, args, options, (error, stdout, stderr) => {
      let answer;
      try {
        answer = JSON.parse(stdout);
      } catch {
        // The error says why there is no answer.
      }
      // Exit code 1 with an answer: some jobs could not be continued.
      // An error that is thrown here would end the gateway: another program can print anything.
      if (typeof answer === "object" && answer !== null && answer.error === undefined) {
        resolve(answer);
        return;
      }
      const ended = error?.killed ? `no end within ${timeout / 1000} s` : "";
      const why = String(answer?.error || ended || stderr.trim() || error?.message || "no answer");
      reject(new Error(why.split("\n")[0].replace(/\p{Cc}/gu, "")));
    });
  });
}

/** Continues jobs, then delivers notifications. Returns one line for the log, and never throws. */
export async function recoverJobs(binary, options = []) {
  const steps = [
    ["recover --all", RECOVER_TIMEOUT_MS, ({ recovered, failed }) =>
      `jobs recovered: ${recovered.length}, failed: ${failed.length}`],
    ["redeliver", REDELIVER_TIMEOUT_MS, ({ delivered, failed }) =>
      `notifications delivered: ${delivered}, jobs with undelivered ones: ${failed.length}`],
  ];
  const done = [];
  for (const [command, timeout, summary] of steps) {
    try {
      const args = [...options, ...command.split(" "), "--json"];
      done.push(summary(await answerOf(binary, args, timeout)));
    } catch (error) {
      done.push(`${command} failed: ${error.message}`);
    }
  }
  return `claudejob: ${done.join("; ")}`;
}

export default async function recover() {
  const binary = await findClaudejob();
  const missing =
    "claudejob: program not found: set CLAUDEJOB to its path in the gateway's environment";
  console.log(binary === undefined ? missing : await recoverJobs(binary));
}
