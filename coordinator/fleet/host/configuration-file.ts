/** A configuration file of a host, which is made where there is none. One that exists is the administrator's. */
import { ensureFile, type FileState, readIfThere } from './managed-file.ts'
import { type HostReport, note } from './report.ts'

/** @param contents called only where there is no such file */
export async function makeConfiguration(
  file: string,
  state: FileState,
  report: HostReport,
  contents: () => object,
): Promise<void> {
  if ((await readIfThere(file)) !== undefined) return note(report, file, false)
  note(report, file, await ensureFile(file, `${JSON.stringify(contents(), undefined, 2)}\n`, state))
}
