// The question of a blocked job as the gateway's own question.

import { type Answer, failed } from "./program.js";

interface Question {
  question: string;
  header: string;
  options: { label: string; description?: string }[];
  multiSelect: boolean;
}

// What `ask_user` accepts.
const MAX_QUESTIONS = 3;
const OPTIONS = { min: 2, max: 4 };

/** Adds the arguments for `ask_user` to the status of a job that asks something. */
export function withQuestion(status: Answer): Answer {
  const blocked = Array.isArray(status) || failed(status) ? undefined : status["blocked"];
  const questions = (blocked as { questions?: Question[] } | null | undefined)?.questions ?? [];
  const fits = questions.length > 0 && questions.length <= MAX_QUESTIONS && questions.every(hasChoices);
  return fits ? { ...status, askUser: { questions: questions.map(forUser) } } : status;
}

function hasChoices({ options }: Question): boolean {
  return options.length >= OPTIONS.min && options.length <= OPTIONS.max;
}

function forUser({ question, header, options, multiSelect }: Question, index: number): object {
  const choices = options.map(({ label, description }) => (description ? { label, description } : { label }));
  return { id: `question_${index + 1}`, header: header || "Question", question, options: choices, multiSelect };
}
