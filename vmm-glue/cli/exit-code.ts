/** Exit codes of every `vpci` command. */
export const EXIT_OK = 0;
/** Refused, or the answer is no. */
export const EXIT_NO = 1;
/** Usage, or unreadable input. */
export const EXIT_USAGE = 2;
/** Our bug. */
export const EXIT_BUG = 70;

/** Ends a command with a sentence for the user and an exit code. */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}
