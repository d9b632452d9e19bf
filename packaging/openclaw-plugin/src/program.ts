// Calls of the claudejob program.

import { execFile } from "node:child_process";
import { findClaudejob } from "./recover.js";

/** The plugin's entry in OpenClaw's configuration. */
export interface Config {
  binary?: string;
  jobsDir?: string;
  wake?: boolean;
}

/** A JSON document that claudejob prints. */
export type Answer = Record<string, unknown> | unknown[];

export interface Call {
  args: string[];
  /** Text for stdin: texts are no arguments, which other users could see. */
  input?: string;
  maxChars?: number;
  signal?: AbortSignal | undefined;
}

// An answer takes seconds; only a machine in trouble takes longer.
const TIMEOUT_MS = 60_000;
// What OpenClaw shows of a tool's result in a small context is 16,000 characters.
const MAX_CHARS = 8_000;

/** Returns the path of claudejob. */
export async function program(config: Config): Promise<string | undefined> {
  return config.binary ?? (await findClaudejob());
}

/** Returns the options that each call begins with. */
export function globalOptions(config: Config): string[] {
  return config.jobsDir === undefined ? [] : [`--jobs-dir=${config.jobsDir}`];
}

/** Runs claudejob and returns what it answers; a call that fails answers `{error, code, hint}`. */
export async function call(config: Config, request: Call): Promise<Answer> {
  const binary = await program(config);
  if (binary === undefined) {
    return failure("claudejob was not found", "no_claudejob", "npm install --global claudejob");
  }
  const limit = String(request.maxChars ?? MAX_CHARS);
  const args = [...globalOptions(config), "--json", "--max-chars", limit, ...request.args];
  return new Promise((resolve) => {
    const options = { timeout: TIMEOUT_MS, maxBuffer: 16 << 20, ...(request.signal && { signal: request.signal }) };
    const child = execFile(binary, args, options, (error, stdout, stderr) => {
      resolve(parse(stdout) ?? failure(reason(error, stderr), "no_answer", `${binary} doctor`));
    });
    // A program that ends without reading its input is judged by what it answers.
    child.stdin?.on("error", () => {});
    child.stdin?.end(request.input ?? "");
  });
}

function parse(stdout: string): Answer | undefined {
  try {
    const answer: unknown = JSON.parse(stdout);
    return typeof answer === "object" && answer !== null ? (answer as Answer) : undefined;
  } catch {
    return undefined;
  }
}

function reason(error: Error | null, stderr: string): string {
  const said = stderr.trim().split("\n").at(-1);
  return `claudejob gave no answer: ${said || error?.message || "it printed nothing"}`;
}

function failure(error: string, code: string, hint: string): Answer {
  return { error, code, hint };
}

/** Says whether a call failed: an answer about a failed job has a code of no error. */
export function failed(answer: Answer): answer is { error: string; code: string; hint: string | null } {
  return !Array.isArray(answer) && typeof answer["error"] === "string" && typeof answer["code"] === "string";
}
