/** What an action on a host did, and what it left as it was. */

export interface HostReport {
  /** Files, directories, users and services that are not as they were. */
  readonly changed: string[]
  /** What was there already, or is not ours to change; then with the reason. */
  readonly kept: string[]
}

/** Notes one thing: where it was changed, or where it was right already. */
export function note(report: HostReport, what: string, changed: boolean): void {
  const list = changed ? report.changed : report.kept
  list.push(what)
}
