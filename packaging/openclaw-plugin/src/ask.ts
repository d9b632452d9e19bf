// The request of a blocked job as a question of the gateway's own.

import { type Answer, failed } from "./program.js";

interface Option {
  label: string;
  description?: string;
}

interface Question {
  question: string;
  header: string;
  options: Option[];
  multiSelect: boolean;
}

interface Blocked {
  kind: string;
  toolName: string | null;
  input: string;
  questions: Question[];
}

// What `ask_user` accepts.
const MAX_QUESTIONS = 3;
const OPTIONS = { min: 2, max: 4 };
const MAX_LABEL = 64;

/** Adds the arguments for `ask_user` to the status of a job that waits for an answer. */
export function withQuestion(status: Answer): Answer {
  if (Array.isArray(status) || failed(status) || !status["blocked"]) {
    return status;
  }
  const blocked = status["blocked"] as Blocked;
  const questions = blocked.kind === "permission" ? [permission(blocked)] : blocked.questions;
  const fits = questions.length > 0 && questions.length <= MAX_QUESTIONS && questions.every(isAccepted);
  return fits ? { ...status, askUser: { questions: questions.map(forUser) } } : status;
}

function permission({ toolName, input }: Blocked): Question {
  return {
    question: `The job wants to use ${toolName}: ${input}`,
    header: "Permission",
    options: [{ label: "Allow" }, { label: "Deny" }],
    multiSelect: false,
  };
}

function isAccepted({ question, options }: Question): boolean {
  const labels = new Set(options.map(({ label }) => label.trim().toLowerCase()));
  const distinct = labels.size === options.length && !labels.has("");
  const short = options.every(({ label }) => label.trim().length <= MAX_LABEL);
  return question.trim() !== "" && distinct && short && labels.size >= OPTIONS.min && labels.size <= OPTIONS.max;
}

function forUser({ question, header, options, multiSelect }: Question, index: number): object {
  const choices = options.map(({ label, description }) => (description ? { label, description } : { label }));
  return { id: `question_${index + 1}`, header: header.trim() || "Question", question, options: choices, multiSelect };
}
