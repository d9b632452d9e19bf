// Types of packaging/openclaw/claudejob-recover/handler.js, which the build copies to this place.

/** Returns the path of claudejob. */
export function findClaudejob(): Promise<string | undefined>;

/** Recovers jobs and delivers notifications; returns a line for the log. */
export function recoverJobs(binary: string, options: string[]): Promise<string>;
